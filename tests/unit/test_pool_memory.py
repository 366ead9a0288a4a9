"""The memory an environment used, read from the kernel's file."""

from __future__ import annotations

import os

from ondol.model.limits import MIB
from ondol.pool.memory import Memory
from ondol.sandbox import Shell
from ondol.testing.clock import VirtualClock


def memory_of(path):
    memory = Memory(sandboxes=None, clock=VirtualClock())
    files = {"memory_peak": os.open(path, os.O_RDONLY)}
    memory.shell = Shell(id="s", account="1", namespaces={}, cgroups=(), files=files)
    return memory


def test_the_file_is_read_after_the_first_call_and_then_whenever_calls_have_run_for_two_milliseconds(tmp_path):
    peak = tmp_path / "peak"
    peak.write_text(f"{10 * MIB}\n")
    memory = memory_of(peak)
    assert memory.peak_mib(0.0001) == 10  # the first
    peak.write_text(f"{12 * MIB}\n")
    assert [memory.peak_mib(0.0009) for _ in range(4)] == [10, 10, 12, 12]
    peak.write_text(f"{90 * MIB}\n")
    assert memory.peak_mib(5.0) == 90  # a long call is seen at once
    os.close(memory.shell.files["memory_peak"])


def test_what_cannot_be_read_leaves_the_last_figure(tmp_path):
    peak = tmp_path / "peak"
    peak.write_text(f"{MIB + 1}")
    memory = memory_of(peak)
    memory.inherited_bytes = 3 * MIB
    assert memory.peak_mib(1.0) == 5  # a part of one counts whole
    peak.write_text("no number")
    assert memory.peak_mib(1.0) == 5
    os.close(memory.shell.files["memory_peak"])
