"""A compiler from verdicts on system calls to the classic BPF that seccomp runs. Pure.

A verdict is what the kernel is to do (`ALLOW`, `errno(n)`, `KILL`), or a `When`, which looks at 32 bits of one argument.
Neighbouring numbers of one verdict become a range, and ranges are found by binary search: a call costs about eight comparisons,
whatever the length of the list. Of a call without a `When` the kernel remembers that it is allowed, and runs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Union

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
#: The kernel takes no longer filter.
INSTRUCTIONS_MAX: Final = 4096

_LOAD, _AND, _JUMP, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
#: Where `struct seccomp_data` has the number, the architecture and the low words of the arguments (little endian).
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_OFFSET_MAX: Final = 255


def errno(number: int) -> int:
    """The call fails with this error and does nothing."""
    return 0x00050000 | number


@dataclass(frozen=True)
class When:
    """`then` for a call whose argument has one of `values` in the bits of `mask`, else `otherwise`.

    Only the low 32 bits are looked at. That is right for every argument that the kernel itself reads as an int.
    """

    argument: int
    values: tuple[int, ...]
    then: Verdict
    otherwise: Verdict
    mask: int = 0xFFFFFFFF


Verdict = Union[int, When]  # noqa: UP007  # a forward reference to When

#: (code, jump if true, jump if false, constant)
Instruction = tuple[int, int, int, int]


def compile_filter(architecture: int, verdicts: Mapping[int, Verdict], default: Verdict, beyond: Verdict) -> bytes:
    """The program, as an array of `struct sock_filter`.

    `default` is for numbers below the highest of `verdicts` that it does not name, `beyond` for those above. Whoever calls by
    another architecture's convention is killed: its numbers mean other calls. Raises ValueError when it gets too long.
    """
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_search(_ranges(verdicts, default, beyond)),
    ]
    if len(program) > INSTRUCTIONS_MAX:
        raise ValueError(f"a filter of {len(program)} instructions, at most {INSTRUCTIONS_MAX} are possible")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _ranges(verdicts: Mapping[int, Verdict], default: Verdict, beyond: Verdict) -> list[tuple[int, Verdict]]:
    """(first number, verdict), in order; each goes on to the next one's first."""
    last = max(verdicts)
    ranges: list[tuple[int, Verdict]] = []
    for number in range(last + 2):
        verdict = beyond if number > last else verdicts.get(number, default)
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((number, verdict))
    return ranges


def _search(ranges: list[tuple[int, Verdict]]) -> list[Instruction]:
    """The accumulator holds the number."""
    if len(ranges) == 1:
        return _verdict(ranges[0][1])
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= _OFFSET_MAX:
        return [(_AT_LEAST, len(below), 0, pivot), *below, *above]
    return [(_AT_LEAST, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]


def _verdict(verdict: Verdict) -> list[Instruction]:
    if not isinstance(verdict, When):
        return [(_RETURN, 0, 0, verdict)]
    otherwise, then = _verdict(verdict.otherwise), _verdict(verdict.then)
    look = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * verdict.argument)]
    if verdict.mask != 0xFFFFFFFF:
        look.append((_AND, 0, 0, verdict.mask))
    after = len(otherwise) + len(verdict.values) - 1
    if after > _OFFSET_MAX:
        raise ValueError("a rule with too many values")
    look += [(_EQUAL, after - place, 0, value) for place, value in enumerate(verdict.values)]
    return [*look, *otherwise, *then]
