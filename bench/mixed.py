"""Short calls among long ones of the same function: what the long ones cost the others."""

from __future__ import annotations

import json
import random

from bench import client, load, servers
from bench.arrivals import one_after_another
from bench.figures import Figure, Section, percentile

SHORT_S, LONG_S = 0.005, 5.0
#: One in so many is long.
SELDOM = 100
CONNECTIONS = 32
CODE = "import time\n\ndef handler(event, context):\n    time.sleep(event['s'])\n    return event['s']\n"


def mixed(*, rounds: int, seconds: float) -> Section:
    every = []
    with servers.ondol_node() as node:
        servers.create(node, "mixed", CODE)
        bodies = [json.dumps({"s": seconds_}).encode() for seconds_ in (SHORT_S, LONG_S)]
        short, long = servers.signed(node, "mixed", bodies)
        load.run(node.endpoint, [short], connections=CONNECTIONS, seconds=1)  # a history first
        for number in range(rounds):
            draw = random.Random(number)
            kinds: list[bool] = []

            def request(at: int, kinds: list[bool] = kinds, draw: random.Random = draw) -> bytes:
                kinds.append(draw.randrange(SELDOM) == 0)
                assert len(kinds) == at + 1
                return long if kinds[at] else short

            came = one_after_another(node.endpoint, request, connections=CONNECTIONS, seconds=seconds)
            client.all_good([answer for _, answer in came])
            every.append([answer.ms for at, answer in came if not kinds[at]])
    text = (
        f"{CONNECTIONS} connections, one call after another for {seconds:.0f} s: {SHORT_S * 1000:.0f} ms of sleep, and one in {SELDOM} "
        f"{LONG_S:.0f} s, of one function. Of the short ones, timed by the client (one thread):"
    )
    figures = [
        Figure(what=f"short call, p{p}", unit="ms", rounds=[percentile(ms, p) for ms in every], target=target)
        for p, target in ((50, ""), (99, "<= 50"))
    ]
    figures.append(Figure(what="short calls", unit="", rounds=[float(len(ms)) for ms in every]))
    return Section("Short calls among long ones", text, figures)
