"""A shell's PID 1, as a program of less than 300 bytes: it reads what comes on descriptor 0 until that ends, and leaves.

It is put together here, so that no compiler is needed and no library stands in each shell: a dynamically linked program that
waits (`cat`) costs 0.2 MiB and a millisecond of processor time each, for the loader and the C library's data, and a PID 1 that
has no library in it has little to be attacked in. Signals are not its business: it is started with SIGCHLD ignored, so that the
kernel reaps orphans, and has no handler for any other.

    for (;;) { n = read(0, stack, 1); if (n > 0 || n == -EINTR) continue; exit_group(0); }
"""

from __future__ import annotations

import struct
from typing import Final

#: Where the file is mapped; any address that is free in a new process.
_BASE: Final = 0x400000
_HEADER, _SEGMENT = 64, 56
_LOAD, _STACK = 1, 0x6474E551
_READ, _WRITE, _EXECUTE = 4, 2, 1

#: By the kernel's name of the machine: ELF's number for it (`EM_X86_64`, `EM_AARCH64`), and the instructions.
_PROGRAMS: Final[dict[str, tuple[int, str]]] = {
    "x86_64": (
        62,
        (
            "31ff"  # xor edi, edi
            "488d7424c0"  # lea rsi, [rsp-64]
            "ba01000000"  # mov edx, 1
            "31c0"  # xor eax, eax          read
            "0f05"  # syscall
            "4885c0"  # test rax, rax
            "7feb"  # jg the first
            "4883f8fc"  # cmp rax, -4          EINTR
            "74e5"  # je the first
            "31ff"  # xor edi, edi
            "b8e7000000"  # mov eax, 231          exit_group
            "0f05"
        ),  # syscall
    ),
    "aarch64": (
        183,
        (
            "000080d2"  # mov x0, #0
            "e10301d1"  # sub x1, sp, #64
            "220080d2"  # mov x2, #1
            "e80780d2"  # mov x8, #63          read
            "010000d4"  # svc #0
            "1f0000f1"  # cmp x0, #0
            "4cffff54"  # b.gt the first
            "1f1000b1"  # cmn x0, #4           EINTR
            "00ffff54"  # b.eq the first
            "000080d2"  # mov x0, #0
            "c80b80d2"  # mov x8, #94          exit_group
            "010000d4"
        ),  # svc #0
    ),
}
MACHINES: Final = tuple(sorted(_PROGRAMS))


def init_program(machine: str) -> bytes:
    """The executable file for a machine of this name (`platform.machine()`). Raises KeyError for others than `MACHINES`."""
    number, instructions = _PROGRAMS[machine]
    code = bytes.fromhex(instructions)
    start = _HEADER + 2 * _SEGMENT
    length = start + len(code)
    magic = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _BASE + start, _HEADER, 0, 0, _HEADER, _SEGMENT, 2, 0, 0, 0)
    whole = struct.pack("<IIQQQQQQ", _LOAD, _READ | _EXECUTE, 0, _BASE, _BASE, length, length, 0x10000)
    stack = struct.pack("<IIQQQQQQ", _STACK, _READ | _WRITE, 0, 0, 0, 0, 0, 16)
    return magic + header + whole + stack + code
