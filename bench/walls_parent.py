"""A parent like a zygote, with or without walls: `PYTHON walls_parent.py MODE`, MODE of none, filter, landlock, both.

Reads one request a line, answers one JSON line: `fork N` (processor seconds of each fork, the parent's and the child's until it has
its walls), `hold N` (what N children that wait have written to of their memory, in KiB, and the kernel's share), `drop`, `calls N`
(processor seconds of one system call of each kind, in a child). Processor time, because it is the same on a busy machine.
"""

import json
import os
import signal
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ondol import syscalls
from ondol.walls import built
from ondol_guest import zygote

#: As bench/memory.py has them: what the kernel holds for processes.
KERNEL = ("SUnreclaim", "KernelStack", "PageTables", "SecPageTables", "Percpu")


def lock(walls: zygote.Walls, mode: str) -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if mode in ("landlock", "both"):
        walls.confine()
    if mode in ("filter", "both"):
        walls.filter()


def fork(walls: zygote.Walls, mode: str) -> tuple[int, float]:
    """(pid, processor seconds of both until it has its walls)."""
    reader, writer = os.pipe()
    began_s = time.process_time()
    pid = os.fork()
    if pid == 0:
        lock(walls, mode)
        os.write(writer, struct.pack("=d", time.process_time()))
        signal.pause()
        os._exit(0)
    ours_s = time.process_time() - began_s
    os.close(writer)
    (childs_s,) = struct.unpack("=d", os.read(reader, 8))
    os.close(reader)
    return pid, ours_s + childs_s


def end(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def kernel_kib() -> int:
    found = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(words[1]) for words in found if words[0].rstrip(":") in KERNEL)


def written_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


def hold(walls: zygote.Walls, mode: str, count: int) -> tuple[list[int], dict[str, float]]:
    before = kernel_kib()
    pids = [fork(walls, mode)[0] for _ in range(count)]
    time.sleep(0.5)
    kernel = (kernel_kib() - before) / count
    return pids, {"kernel_kib": kernel, "written_kib": sum(map(written_kib, pids)) / count}


def calls(walls: zygote.Walls, mode: str, count: int) -> dict[str, float]:
    """Each kind in a loop, in a child of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        lock(walls, mode)
        near, far = os.pipe()
        kinds = {
            "getppid": os.getppid,
            "write and read": lambda: (os.write(far, b"."), os.read(near, 1)),
            "stat": lambda: os.stat("/usr/bin"),
            "open and close": lambda: os.close(os.open("/usr/bin/env", os.O_RDONLY)),
            "socket and close": lambda: os.close(_socket()),
        }
        found = {}
        for kind, call in kinds.items():
            began_s = time.process_time()
            for _ in range(count):
                call()
            found[kind] = (time.process_time() - began_s) / count
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        answer: dict[str, float] = json.loads(said.read())
    os.wait()
    return answer


def _socket() -> int:
    import socket

    return socket.socket(socket.AF_UNIX).detach()


def main(mode: str) -> None:
    made = built.build()
    walls = zygote.Walls(made.message())
    zygote.warm()
    if mode in ("filter", "both"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.install_filter(made.filters.zygote)
    held: list[int] = []
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        what, _, number = line.strip().partition(" ")
        answer: object = None
        if what == "fork":
            pids, answer = zip(*(fork(walls, mode) for _ in range(int(number))), strict=True)
            end(list(pids))
        elif what == "hold":
            held, answer = hold(walls, mode, int(number))
        elif what == "drop":
            end(held)
        elif what == "calls":
            answer = calls(walls, mode, int(number))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
