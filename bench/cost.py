"""What logs, metrics and records cost a warm call: the desk's CPU, which does nothing else then, and the front's share of it.

The front's share is measured in this process (`bench.path`), with everything kept and with nothing, round by round in turn; the rest
on a node under load.
"""

from __future__ import annotations

import statistics
import uvloop

from bench import path, warm
from bench.figures import Figure, Section
from bench.servers import ONDOL

MANY = 32


def cost(*, rounds: int, seconds: int) -> Section:
    """In shares of the node's CPU per call without it."""
    kept, nothing = [], []
    for _ in range(rounds):
        nothing.append(min(uvloop.run(path.measure(3, kept="nothing"))[0]))
        kept.append(min(uvloop.run(path.measure(3, kept="all"))[0]))
    found = warm.measure(ONDOL, rounds=rounds, seconds=seconds, connections=(MANY,), modes=("free",))
    node = [round_.cpu_us for round_ in found.rounds]
    front_us = statistics.median(kept) - statistics.median(nothing)
    shares = [(front_us + each["desk"]) / (each["all"] - each["desk"] - front_us) * 100 for each in node]
    return Section(
        "What is kept of a warm call",
        f"{MANY} connections, not pinned; START, END and REPORT lines, metrics and a record of every call.",
        [
            Figure(what="front, in process, everything kept", unit="µs", rounds=kept),
            Figure(what="front, in process, nothing kept", unit="µs", rounds=nothing),
            Figure(what="desk, per call", unit="µs", rounds=[each["desk"] for each in node]),
            Figure(what="node, per call", unit="µs", rounds=[each["all"] for each in node]),
            Figure(what="more CPU than with nothing kept", unit="%", rounds=shares, target="<= 10"),
        ],
    )
