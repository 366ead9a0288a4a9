"""The kernel's side of a filter of system calls: runs a program as seccomp does, on a call that is not made."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Final

from ondol.walls.bpf import Verdict, When

_WORD: Final = 0xFFFFFFFF


@functools.cache
def _read(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", program))


def run(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """The verdict. Raises ValueError for a program that the kernel would not take, or that runs off its end."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *padded)
    instructions = _read(program)
    accumulator, at = 0, 0
    while 0 <= at < len(instructions):
        code, if_true, if_false, constant = instructions[at]
        at += 1
        match code:
            case 0x20:
                if constant % 4 or constant >= len(data):
                    raise ValueError(f"a load at {constant}")
                accumulator = int.from_bytes(data[constant : constant + 4], "little")
            case 0x54:
                accumulator &= constant
            case 0x05:
                at += constant
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x06:
                return int(constant)
            case _:
                raise ValueError(f"an instruction with code {code:#x}")
    raise ValueError("no verdict")


def meant(verdict: Verdict, arguments: Sequence[int]) -> int:
    """What `verdict` says of a call with these arguments, read as it is written."""
    while isinstance(verdict, When):
        argument = arguments[verdict.argument] if verdict.argument < len(arguments) else 0
        verdict = verdict.then if argument & verdict.mask & _WORD in verdict.values else verdict.otherwise
    return verdict


def words(verdict: Verdict, argument: int) -> list[int]:
    """Values for an argument between which `verdict` may tell, and some beyond 32 bits."""
    found = {0, 1, _WORD}
    pending = [verdict]
    while pending:
        at = pending.pop()
        if isinstance(at, When):
            pending += [at.then, at.otherwise]
            if at.argument == argument:
                found.update(word for value in at.values for word in (value, value | 1 << 32, ~value & _WORD, value + 1))
                found.update((at.mask, ~at.mask & _WORD, at.mask & -at.mask))
    return sorted(found)


def of_two(newer: int, older: int) -> int:
    """The verdict that counts, of two filters that a process is under: the more restrictive action, or the newer filter's."""
    return older if _severity(older) < _severity(newer) else newer


def _severity(verdict: int) -> int:
    action = verdict & 0xFFFF0000
    return action - (1 << 32) if action >> 31 else action
