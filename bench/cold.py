"""First calls: of functions that never ran, one by one and many at once."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

from bench import client, servers
from bench.arrivals import when_due
from bench.figures import Figure, Section, percentile
from ondol.testing.node import Node

PAUSE_S = 0.05
BURSTS = (50, 200)
NAP_S = 0.2

#: Tells environments apart: what is made at import is made once in each.
NAPS = f"""
import os, time
ME = os.urandom(8).hex()

def handler(event, context):
    time.sleep(event.get("nap_s", {NAP_S}))
    return {{"me": ME}}
"""


def init_ms(log: str) -> float:
    """What the REPORT line says; a call without an Init Duration was no cold start."""
    found = re.search(r"Init Duration: ([0-9.]+) ms", log)
    if not found:
        raise RuntimeError(f"not a first call: its report has no Init Duration:\n{log}")
    return float(found[1])


def create_many(node: Node, names: list[str], code: str) -> None:
    from ondol.testing.node import zipped

    archive = zipped({"app.py": code})
    lambda_client = node.client()

    def one(name: str) -> None:
        lambda_client.create_function(
            FunctionName=name,
            Role=servers.role(node),
            Code={"ZipFile": archive},
            Runtime=servers.runtime(),
            Handler="app.handler",
            Timeout=30,
        )

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(one, names))


def first_calls(node: Node, round_: int, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of `count` first calls, and what the node says about each start."""
    names = [f"cold-{round_}-{number}" for number in range(count)]
    create_many(node, names, servers.HANDLER)
    requests = [servers.signed(node, name, [servers.body(0)], **{"X-Amz-Log-Type": "Tail"})[0] for name in names]
    time.sleep(1)
    answers = []
    with client.Connection(node.endpoint) as connection:
        for request in requests:
            answers.append(connection.call(request))
            time.sleep(PAUSE_S)
    good = client.all_good(answers)
    _remove(node, names)
    return [answer.ms for answer in good], [init_ms(answer.log) for answer in good]


def burst(node: Node, round_: int, count: int) -> tuple[float, list[float], int]:
    """Milliseconds until all of so many first calls of one function were answered, and of each; environments used."""
    name = f"burst-{count}-{round_}"
    create_many(node, [name], NAPS)
    requests = servers.signed(node, name, [json.dumps({"n": n}).encode() for n in range(count)])
    answers = client.all_good(when_due(node.endpoint, [0.0] * count, requests, connections=count))
    environments = {json.loads(answer.body)["me"] for answer in answers}
    _remove(node, [name])
    total_s = max(a.done_s for a in answers) - min(a.sent_s for a in answers)
    return total_s * 1000, [answer.ms for answer in answers], len(environments)


def _remove(node: Node, names: list[str]) -> None:
    lambda_client = node.client()
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda name: lambda_client.delete_function(FunctionName=name), names))


def cold(*, rounds: int, count: int) -> Section:
    every: list[tuple[list[float], list[float]]] = []
    with servers.ondol_node() as node:
        for number in range(rounds):
            every.append(first_calls(node, number, count))
    text = (
        f"{count} functions that never ran are called once each over one connection, {PAUSE_S * 1000:.0f} ms apart, signed "
        f"beforehand; {rounds} round{'s' * (rounds > 1)}. Timed by the client, from sending to the last byte."
    )
    figures = [
        Figure(
            what=f"first call, p{p}", unit="ms", rounds=[percentile(ms, p) for ms, _ in every], target="<= 8" if p == 50 else ""
        )
        for p in (50, 90, 99)
    ]
    inits = [percentile(ms, 50) for _, ms in every]
    figures.append(Figure(what="of it, Init Duration as reported, p50", unit="ms", rounds=inits))
    return Section("Cold start", text, figures)


#: What a burst may take until all were answered, in ms, where that is promised.
_BURST_TARGETS = {200: "<= 1500"}


def bursts(*, rounds: int, count: int) -> Section:
    with servers.ondol_node() as node:
        every = [burst(node, number, count) for number in range(rounds)]
    text = (
        f"{count} calls in the same moment of a function that never ran, whose handler sleeps {NAP_S} s, so that {count} "
        "environments are needed; the sleep is part of the figures."
    )
    target = _BURST_TARGETS.get(count, "")
    figures = [Figure(what="all answered after", unit="ms", rounds=[total for total, _, _ in every], target=target)]
    figures += [Figure(what=f"one call, p{p}", unit="ms", rounds=[percentile(ms, p) for _, ms, _ in every]) for p in (50, 99)]
    figures.append(Figure(what="environments used", unit="", rounds=[float(used) for _, _, used in every]))
    return Section(f"Burst of {count}", text, figures)
