"""Limits that hold across fronts: each is a heap of tokens, and a front may use what it was leased. Both halves' books; pure.

    Ledger   the desk's: of each limit, how many tokens there are and how many each front holds; the rest is free
    Shares   a front's: what it holds, and what it may use of it

All tokens lie with the fronts, in equal parts at first, so that nobody is asked while demand is even. Who runs short asks the
desk, which gives what is free, and has the others give what they do not use. When a limit falls, fronts *owe* what is too much:
they use no more of it, and give it back as calls end.

What a front that is away holds stays its own: its calls may be running. It says anew what it holds when it is back, and one
that was started again, once everything of its predecessor has ended, says that it holds nothing.

Invariants: what fronts hold never exceeds the limit, except for what is owed; a front uses no more than it holds; tokens
are counted once on their way, with who gives them until that is known to have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

#: Whose limit: an account's in a region, or a function's, by its id.
Key = tuple[str, str] | str


class Ledger:
    """Front numbers go from 0. Nothing is free before every front has said what it holds, or was given up."""

    def __init__(self, fronts: int) -> None:
        self.fronts = fronts
        self._limits: dict[Key, int] = {}
        #: Tells a limit from one of the same name that was there before.
        self._stamps: dict[Key, int] = {}
        self._stamp = 0
        self._held: list[dict[Key, int]] = [{} for _ in range(fronts)]
        self._unheard = set(range(fronts))

    @property
    def complete(self) -> bool:
        """Whether it is known what everybody holds."""
        return not self._unheard

    @property
    def limited(self) -> list[Key]:
        """What there are limits of."""
        return list(self._limits)

    # Limits ------------------------------------------------------------------------------------------------------------
    def limit(self, key: Key, total: int | None) -> bool:
        """From now on there are so many tokens; None: nobody counts these any more. Whether that is a change."""
        if self._limits.get(key) == total:
            return False
        if total is None:
            del self._limits[key], self._stamps[key]
            for held in self._held:
                held.pop(key, None)
        else:
            if key not in self._limits:
                self._stamp += 1
                self._stamps[key] = self._stamp
            self._limits[key] = total
        return True

    def stamp(self, key: Key) -> int | None:
        """Another number after the limit was gone for a while: what was said of it before is of no account. None: gone."""
        return self._stamps.get(key)

    def held(self, front: int, key: Key) -> int:
        return self._held[front].get(key, 0)

    def free(self, key: Key) -> int:
        """Tokens that nobody holds."""
        if self._unheard:
            return 0
        return max(self._limits.get(key, 0) - self._leased(key), 0)

    def excess(self, key: Key) -> int:
        """How many more are held than there are."""
        return max(self._leased(key) - self._limits[key], 0) if key in self._limits else 0

    def owed(self, key: Key) -> dict[int, int]:
        """What each front owes of the excess: those that hold the most come down to the height of the others."""
        excess = self.excess(key)
        heights = {front: held.get(key, 0) for front, held in enumerate(self._held)}
        left = dict(heights)
        while excess > 0:
            highest = max(left.values())
            tops = [front for front, height in left.items() if height == highest]
            below = max((height for height in left.values() if height < highest), default=0)
            step = max(min(highest - below, excess // len(tops)), 1)
            for front in tops:
                taken = min(step, excess)
                left[front] -= taken
                excess -= taken
        return {front: heights[front] - left[front] for front in heights}

    # Fronts --------------------------------------------------------------------------------------------------------------
    def declare(self, front: int, held: Mapping[Key, int]) -> None:
        """A front says what it holds, which is the truth whatever was written here."""
        self._held[front] = {key: count for key, count in held.items() if key in self._limits and count > 0}
        self._unheard.discard(front)

    def give_up(self, front: int) -> None:
        """It is not coming back: nothing of it runs any more."""
        self.declare(front, {})

    # Tokens ------------------------------------------------------------------------------------------------------------
    def share(self, front: int, key: Key) -> int:
        """Ahead of need: up to an equal part for the front, of what is free; how many it gets."""
        total = self._limits.get(key, 0)
        equal = total // self.fronts + (front < total % self.fronts)
        return self._take(front, key, min(equal - self.held(front, key), self.free(key)))

    def ask(self, front: int, key: Key, wanted: int) -> int:
        """What the front gets of what is free: what it wants, and some ahead of the next time."""
        free = self.free(key)
        return self._take(front, key, min(max(wanted, free // self.fronts), free))

    def move(self, giver: int, taker: int, key: Key, count: int) -> None:
        """One front gave another so many."""
        self.give_back(giver, key, count)
        self._take(taker, key, count)

    def give_back(self, front: int, key: Key, count: int) -> None:
        left = self.held(front, key) - count
        assert left >= 0, f"front {front} gave back more of {key} than it held"
        if left > 0:
            self._held[front][key] = left
        else:
            self._held[front].pop(key, None)

    def _take(self, front: int, key: Key, count: int) -> int:
        if count <= 0:
            return 0
        self._held[front][key] = self.held(front, key) + count
        return count

    def _leased(self, key: Key) -> int:
        return sum(held.get(key, 0) for held in self._held)


class Shares:
    """`used(key)`: how many tokens are in use at this front now."""

    def __init__(self, used: Callable[[Key], int]) -> None:
        self._used = used
        self._held: dict[Key, int] = {}
        #: How many may be in use: what is held, less what is owed. Looked at for every call.
        self.usable: dict[Key, int] = {}

    def held(self) -> dict[Key, int]:
        return dict(self._held)

    def grant(self, grants: Iterable[tuple[Key, int]]) -> None:
        """So many more."""
        for key, count in grants:
            self._held[key] = self._held.get(key, 0) + count
            self.usable[key] = self.usable.get(key, 0) + count

    def lend(self, key: Key, wanted: int) -> int:
        """Give another front what it wants, or half of what is not in use if that is more; how many that is."""
        idle = max(self.usable.get(key, 0) - self._used(key), 0)
        return self._part_with(key, min(idle, max(wanted, idle // 2)))

    def owe(self, key: Key, count: int) -> int:
        """From now on so many are owed, whatever was before; how many of them are given back now."""
        if key not in self._held:
            return 0
        held = self._held[key]
        count = min(count, held)
        given = min(count, max(held - self._used(key), 0))
        self.usable[key] = held - count + given
        return self._part_with(key, given)

    def forget(self, key: Key) -> None:
        """Nobody counts these any more."""
        self._held.pop(key, None)
        self.usable.pop(key, None)

    def _part_with(self, key: Key, count: int) -> int:
        if count > 0:
            self._held[key] -= count
            self.usable[key] -= count
        return max(count, 0)
