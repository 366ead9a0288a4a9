"""Levels of isolation: their order, and what one node offers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ondol.model.errors import InvalidSetting

PROCESS: Final = "process"
SANDBOX: Final = "sandbox"
GVISOR: Final = "gvisor"

#: How much stands between functions. `bwrap` and `crun` put up the sandbox's walls by other means: neither more nor less.
RANKS: Final[Mapping[str, int]] = {PROCESS: 0, SANDBOX: 1, "bwrap": 1, "crun": 1, GVISOR: 2}
#: Which of a node's processes makes the sandboxes of a level.
MAKERS: Final = {level: "processes" if level == PROCESS else "keeper" if level == SANDBOX else "launcher" for level in RANKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What functions of one node may ask for. `level` is what they get who ask for nothing."""

    level: str = SANDBOX
    #: Its own, and what else there is that is not less.
    offered: tuple[str, ...] = (SANDBOX,)
    #: Why there is not more, by level, and how to mend it.
    missing: Mapping[str, str] = field(default_factory=dict)

    def check(self, asked: str) -> None:
        """Raise InvalidSetting unless a function may ask for this; "" asks for nothing."""
        if not asked or asked in self.offered:
            return
        if asked not in RANKS:
            raise InvalidSetting("isolation", f"{asked!r} is no level of isolation; expected one of {', '.join(RANKS)}")
        if RANKS[asked] < RANKS[self.level]:
            raise InvalidSetting(
                "isolation",
                f"this node isolates by {self.level}, and a function may ask for more, not for less, as {asked} would be; "
                f"offered: {', '.join(self.offered)}",
            )
        why = self.missing.get(asked, f"this node was started with --isolation {self.level} and does not offer it")
        raise InvalidSetting("isolation", f"{asked} cannot be had on this node: {why}")

    def of(self, asked: str) -> str:
        """The level that a function with this wish runs at."""
        return asked or self.level


#: A node that offers the sandbox alone.
USUAL: Final = Isolation()
