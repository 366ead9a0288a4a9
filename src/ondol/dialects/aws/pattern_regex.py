r"""The regular expressions of filter patterns: `%…%`, without groups. Pure, and linear in the text whatever the expression.

Python's own engine goes back and tries again, so that one short expression can keep a process busy for hours. This language
is small enough for an automaton: one position for each character that an expression can take, and sets of positions as states,
made when they are first met and kept in a bounded table.

Understood: literals, `.`, classes with ranges and `^`, `\d \w \s \D \W \S \xhh`, any other character behind a backslash, `^`
and `$` at a branch's ends, `? * + {n} {n,} {n,m}`, `|`. `$` also stands in front of a text's last newline.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from typing import Final

from ondol.dialects.aws.pattern_parts import BadPattern

#: Characters that may stand in an expression, as the service lists them; and space.
_ALLOWED: Final = re.compile(r"[A-Za-z0-9:_#=@/;,\-^$?\[\]{}|\\*+. ]*")
_COUNTS: Final = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}", re.ASCII)
#: Positions of one expression: `a{100}` has 100.
POSITIONS_MAX: Final = 200
#: Steps from state to state that are remembered.
STEPS_MAX: Final = 10_000
#: How far into a text an expression looks.
TEXT_CHARS_MAX: Final = 64 * 1024

_DIGITS: Final = frozenset(string.digits)
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
_SPACE: Final = frozenset(" \t\n\r\f\v")
_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_EVERYTHING: Final = frozenset(map(chr, range(128)))


@dataclass(frozen=True, slots=True)
class Taken:
    """The characters that a position takes."""

    chars: frozenset[str]
    others: bool = False  #: everything but those

    def __contains__(self, char: str) -> bool:
        return (char in self.chars) is not self.others


@dataclass(slots=True)
class _Automaton:
    """Positions and what may follow them, as bits of integers."""

    takes: list[Taken] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)
    #: Where a match can begin: anywhere, or only at the text's start.
    first: int = 0
    first_at_start: int = 0
    #: Where it can end: anywhere, or only at the text's end.
    last: int = 0
    last_at_end: int = 0
    #: It matches every text, or the empty one.
    always: bool = False
    empty: bool = False


class Regex:
    """An expression; raises BadPattern."""

    def __init__(self, text: str) -> None:
        if not text:
            raise BadPattern("a regular expression is empty")
        if not _ALLOWED.fullmatch(text):
            raise BadPattern(f"the regular expression {text[:80]!r} has characters that are not supported")
        parser = _Parser(text)
        self._automaton = parser.parsed()
        #: Texts that stand in everything it matches.
        self.needed: tuple[str, ...] = tuple(run for run in parser.runs if run)
        self._table: dict[tuple[int, str], int] = {}
        #: The positions that take a character.
        self._takers: dict[str, int] = {}

    def search(self, text: str) -> bool:
        """Whether it matches somewhere in the text (its first TEXT_CHARS_MAX characters)."""
        automaton, table = self._automaton, self._table
        if automaton.always or (automaton.empty and text in ("", "\n")):
            return True
        whole = len(text) <= TEXT_CHARS_MAX
        last_line = len(text) - 1 if whole and text.endswith("\n") else -1
        state, last, at_end = -1, automaton.last, automaton.last_at_end
        for at, char in enumerate(text if whole else text[:TEXT_CHARS_MAX]):
            if at == last_line and at and state & at_end:
                return True
            after = table.get((state, char))
            if after is None:
                after = self._step(state, char)
            if after & last:
                return True
            state = after
        return whole and state > 0 and bool(state & at_end)

    def _step(self, state: int, char: str) -> int:
        """The positions that have just taken `char`; state -1 is the text's start."""
        automaton = self._automaton
        may = automaton.first
        if state < 0:
            may |= automaton.first_at_start
        else:
            for position in _bits(state):
                may |= automaton.follow[position]
        takers = self._takers.get(char)
        if takers is None:
            takers = sum(1 << position for position, takes in enumerate(automaton.takes) if char in takes)
            self._takers[char] = takers
        after = may & takers
        if len(self._table) >= STEPS_MAX:
            self._table.clear()
            self._takers.clear()
        self._table[state, char] = after
        return after


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


class _Parser:
    """From text to automaton, branch by branch."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._made = _Automaton()
        #: Plain characters that must follow one another; none where there is a choice of branches.
        self.runs: list[str] = [""]

    def parsed(self) -> _Automaton:
        self._branch()
        if self._at < len(self._text):
            self._branches()
            self.runs = []
        return self._made

    def _branches(self) -> None:
        while self._at < len(self._text):
            self._at += 1  # the "|" that ended the branch
            self._branch()

    def _branch(self) -> None:
        made, at_start = self._made, self._next("^")
        first, tails, passable, at_end = 0, 0, True, False
        while self._at < len(self._text) and self._text[self._at] != "|":
            if self._next("$"):
                if self._at < len(self._text) and self._text[self._at] != "|":
                    raise self._error("$ may only end it")
                at_end = True
                break
            takes = self._atom()
            least, most = self._repeat()
            if (least, most) == (1, 1) and len(takes.chars) == 1 and not takes.others:
                self.runs[-1] += min(takes.chars)
            elif self.runs[-1]:
                self.runs.append("")
            loops = most is None
            copies = max(least, 1) if most is None else most
            for copy in range(copies):
                position = self._position(takes)
                for tail in _bits(tails):
                    made.follow[tail] |= position
                first |= position if passable else 0
                made.follow[-1] |= position if loops and copy == copies - 1 else 0
                if copy < least:
                    tails, passable = position, False
                else:
                    tails |= position
        made.first_at_start |= first if at_start else 0
        made.first |= 0 if at_start else first
        made.last_at_end |= tails if at_end else 0
        made.last |= 0 if at_end else tails
        if passable:
            made.empty |= at_start and at_end
            made.always |= not (at_start and at_end)

    def _position(self, takes: Taken) -> int:
        made = self._made
        if len(made.takes) >= POSITIONS_MAX:
            raise self._error(f"it is longer than {POSITIONS_MAX} characters when written out")
        made.takes.append(takes)
        made.follow.append(0)
        return 1 << (len(made.takes) - 1)

    def _repeat(self) -> tuple[int, int | None]:
        """At least, at most."""
        for sign, counts in (("?", (0, 1)), ("*", (0, None)), ("+", (1, None))):
            if self._next(sign):
                return counts
        found = _COUNTS.match(self._text, self._at)
        if found is None:
            return 1, 1
        self._at = found.end()
        least = int(found[1])
        most = least if not found[2] else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise self._error("the counts are the wrong way round")
        return least, most

    def _atom(self) -> Taken:
        char = self._text[self._at]
        if char in "*+?{^":
            raise self._error(f"{char!r} has nothing to repeat" if char != "^" else "^ may only begin it")
        self._at += 1
        if char == ".":
            return Taken(frozenset("\n"), others=True)
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        return Taken(frozenset(char))

    def _class(self) -> Taken:
        others = self._next("^")
        chars: set[str] = set()
        while True:
            if self._at >= len(self._text):
                raise self._error("the ] of a class is missing")
            if self._next("]"):
                if not chars:
                    raise self._error("a class is empty")
                return Taken(frozenset(chars), others=others)
            low = self._member()
            if len(low) == 1 and self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                if self._at >= len(self._text):
                    raise self._error("the ] of a class is missing")
                high = self._member()
                begin, end = ord(min(low)), ord(min(high))
                if len(high) != 1 or end < begin:
                    raise self._error("a range is not one")
                chars.update(map(chr, range(begin, end + 1)))
            else:
                chars |= low

    def _member(self) -> frozenset[str]:
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return frozenset(char)
        taken = self._escape()
        return _EVERYTHING - taken.chars if taken.others else taken.chars

    def _escape(self) -> Taken:
        char = self._text[self._at : self._at + 1]
        if not char:
            raise self._error("a backslash is the last character")
        self._at += 1
        if char.lower() in _CLASSES:
            return Taken(_CLASSES[char.lower()], others=char.isupper())
        if char == "x":
            digits = self._text[self._at : self._at + 2]
            if len(digits) < 2 or not all(digit in string.hexdigits for digit in digits):
                raise self._error("two hexadecimal digits were expected behind \\x")
            self._at += 2
            return Taken(frozenset(chr(int(digits, 16))))
        if char.isalnum():
            raise self._error(f"\\{char} is not supported")
        return Taken(frozenset(char))

    def _next(self, char: str) -> bool:
        if self._text.startswith(char, self._at):
            self._at += 1
            return True
        return False

    def _error(self, why: str) -> BadPattern:
        return BadPattern(f"the regular expression {self._text[:80]!r} is not valid: {why}")
