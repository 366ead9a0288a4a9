"""A node of a command's own: `ondol up` as a child process, ended in order when the command ends.

It has a process group of its own, so that Ctrl-C reaches only the command, which then ends the node. If the command is killed,
the kernel tells the node to stop.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ondol import config
from ondol.cli import client
from ondol.cli.shape import Exit, Failure

READY_S_MAX: Final = 30.0
#: On top of the drain: for ending sandboxes and closing files.
STOP_S_MAX: Final = 3.5
PR_SET_PDEATHSIG: Final = 1


@contextmanager
def node(settings: config.Settings, given: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running node (and where it listens), ended when the block is left, by Ctrl-C or otherwise."""
    read, write = os.pipe()
    libc = ctypes.CDLL(None)

    def follow_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    command = [sys.executable, "-m", "ondol.cli.main", "up", *given, "--ready-fd", str(write)]
    with os.fdopen(read, "rb") as ready:
        process = subprocess.Popen(
            command,
            pass_fds=(write,),
            process_group=0,
            preexec_fn=follow_parent,  # noqa: PLW1509  # this process has one thread
        )
        os.close(write)
        try:
            client.preload("lambda")
            yield process, _await(process, ready.fileno())
        except KeyboardInterrupt:
            _stop(process, settings.drain_s + STOP_S_MAX)
            sys.exit(Exit.OK)
        finally:
            _stop(process, settings.drain_s + STOP_S_MAX)


def _await(process: subprocess.Popen[bytes], fd: int) -> str:
    """The address that the node reports. Raises Failure when it ends, or says nothing, instead."""
    until = time.monotonic() + READY_S_MAX
    said = b""
    while not said.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            raise Failure(Exit.UNREACHABLE, f"the node did not become ready within {READY_S_MAX:.0f} s.")
        piece = os.read(fd, 4096)
        if not piece:
            # It said why on standard error; its status is ours.
            sys.exit(process.wait(READY_S_MAX) or Exit.UNREACHABLE)
        said += piece
    return said.decode().strip()


def _stop(process: subprocess.Popen[bytes], patience_s: float) -> None:
    if process.poll() is not None:
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    signal.signal(signal.SIGINT, before)


def arguments(flags: dict[str, Any], config_file: str | None) -> list[str]:
    """The options as they were given, for the node's own command line."""
    given = ["--config", config_file] if config_file else []
    for spec in config.SPECS:
        value = flags.get(spec.name)
        if value is not None:
            given += [spec.flag] if spec.switch else [spec.flag, str(value)]
    return given
