"""A shell's PID 1: waits for the end of its input, and does nothing else."""

import os
import platform
import shutil
import signal
import struct
import subprocess

import pytest

from ondol.keeper.init_program import MACHINES, init_program
from ondol.walls.numbers import ARCHITECTURES


@pytest.fixture(params=MACHINES)
def command(request, tmp_path):
    """How the program of each machine is started here."""
    emulator = [] if request.param == platform.machine() else [shutil.which(f"qemu-{request.param}")]
    if None in emulator:
        pytest.skip(f"no {request.param} machine, and no qemu-{request.param} (Debian: qemu-user)")
    program = tmp_path / "init"
    program.write_bytes(init_program(request.param))
    program.chmod(0o755)
    return [*emulator, str(program)]


@pytest.fixture
def started(command):
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={}) as process:
        yield process
        process.kill()


def test_there_is_one_for_every_machine_that_has_filters():
    assert set(MACHINES) == set(ARCHITECTURES)


def test_it_waits_for_the_end_of_its_input_and_says_nothing(started):
    started.stdin.write(b"whatever comes\n")
    started.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.2)
    started.stdin.close()
    assert started.wait(20) == 0
    assert started.stdout.read() == b""


def test_it_waits_on_after_it_was_stopped(started):
    for number in (signal.SIGSTOP, signal.SIGCONT):
        started.send_signal(number)
        os.waitid(os.P_PID, started.pid, os.WSTOPPED | os.WCONTINUED | os.WNOWAIT)
    started.stdin.close()
    assert started.wait(20) == 0


def test_without_an_input_it_leaves(command):
    assert subprocess.run(["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command], env={}, check=False).returncode == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_it_has_no_library_no_loader_and_nothing_that_is_both_written_and_run(machine):
    program = init_program(machine)
    offset, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    segments = [struct.unpack_from("<II", program, offset + size * index) for index in range(count)]
    assert segments == [(1, 5), (0x6474E551, 6)]
    assert len(program) < 300
