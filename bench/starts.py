"""Starts of environments: from the pool while they arrive at random, with the pool empty, with boto3, many at once, and as
an ordinary user.

A start is a first call of an environment; each answer's REPORT line is looked at, and one without an Init Duration is no start.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Sequence

from bench import client, processes, servers
from bench.arrivals import when_due
from bench.cold import NAPS, create_many
from bench.figures import Figure, Section, percentile
from ondol.testing.keepers import USER
from ondol.testing.node import Node

PER_S = 50
#: Each is called once a round: one that is called again may find an environment, kept because it is in use.
FUNCTIONS = 1500
IDLE_S_MAX = 2
#: What a start takes is over: the stock is filled again, environments have ended.
AFTER_S = IDLE_S_MAX + 2.0
MANY = 200
PAUSE_S = 0.05

BOTO3 = "import boto3\n\ndef handler(event, context):\n    return {'hello': event.get('name', 'you')}\n"

_INIT = re.compile(r"Init Duration: ([0-9.]+) ms")


def requests_of(node: Node, names: Sequence[str]) -> list[bytes]:
    """One for each, whose answer brings its REPORT line."""
    return [servers.signed(node, name, [servers.body(0)], **{"X-Amz-Log-Type": "Tail"})[0] for name in names]


def only_starts(answers: Sequence[client.Answer | Exception]) -> list[client.Answer]:
    """The answers that were starts. Raises RuntimeError when a call failed, or more than one in fifty was none."""
    good = client.all_good(answers)
    starts = [answer for answer in good if _INIT.search(answer.log)]
    if len(starts) < 0.98 * len(good):
        raise RuntimeError(f"only {len(starts)} of {len(good)} calls were starts")
    return starts


def at_random(node: Node, names: Sequence[str], *, seconds: float, seed: int) -> tuple[list[float], float]:
    """Milliseconds of each start, and CPU ms of the node for each, with all that comes after it."""
    draw = random.Random(seed)
    due_s = list(itertools.accumulate(draw.expovariate(PER_S) for _ in range(int(PER_S * seconds))))
    every = requests_of(node, names)
    before_us = processes.cpu_us(node.process.pid)["all"]
    answers = when_due(node.endpoint, due_s, [every[number % len(every)] for number in range(len(due_s))])
    time.sleep(AFTER_S)
    used_us = processes.cpu_us(node.process.pid)["all"] - before_us
    return [answer.ms for answer in only_starts(answers)], used_us / 1000 / len(answers)


def poisson(*, rounds: int, seconds: float) -> Section:
    every = []
    with servers.ondol_node(None, "--idle-s-max", str(IDLE_S_MAX)) as node:
        names = [f"start-{number}" for number in range(FUNCTIONS)]
        create_many(node, names, servers.HANDLER)
        time.sleep(AFTER_S)
        for number in range(rounds):
            every.append(at_random(node, names, seconds=seconds, seed=number))
    text = (
        f"{FUNCTIONS} functions in turn, environments end after {IDLE_S_MAX} s: every call starts one. Arrivals at random (Poisson), "
        f"{PER_S} a second for {seconds:.0f} s, whether or not earlier calls were answered; signed beforehand, timed by the client."
    )
    figures = [
        Figure(what=f"start from the pool, p{p}", unit="ms", rounds=[percentile(ms, p) for ms, _ in every], target=target)
        for p, target in ((50, "<= 2"), (90, ""), (99, "<= 15"))
    ]
    figures.append(
        Figure(
            what="CPU of the node for each",
            unit="ms",
            rounds=[cpu_ms for _, cpu_ms in every],
            note="with filling the stock again and ending the environment",
        )
    )
    return Section(f"Starts that arrive at random, {PER_S} a second", text, figures)


def in_turn(node: Node, names: Sequence[str], code: str) -> list[float]:
    """Milliseconds of first calls, one by one."""
    create_many(node, list(names), code)
    requests = requests_of(node, names)
    time.sleep(2)
    answers: list[client.Answer | Exception] = []
    with client.Connection(node.endpoint) as connection:
        for request in requests:
            answers.append(connection.call(request))
            time.sleep(PAUSE_S)
    return [answer.ms for answer in only_starts(answers)]


def _kind(
    title: str, what: str, target: str, *flags: str, code: str, rounds: int, count: int, user: int | None = None
) -> list[Figure]:
    every = []
    with servers.ondol_node(None, *flags, user=user) as node:
        for number in range(rounds):
            every.append(in_turn(node, [f"{title}-{number}-{each}" for each in range(count)], code))
    return [
        Figure(what=f"{what}, p{p}", unit="ms", rounds=[percentile(ms, p) for ms in every], target=target if p == 50 else "")
        for p in (50, 99)
    ]


def kinds(*, rounds: int, count: int) -> Section:
    figures = [
        *_kind("pool", "from the pool", "<= 2", code=servers.HANDLER, rounds=rounds, count=count),
        *_kind("empty", "with the pool empty", "<= 8", "--stock-shells", "0", code=servers.HANDLER, rounds=rounds, count=count),
        *_kind("sdk", "importing boto3, from the pool", "<= 5", code=BOTO3, rounds=rounds, count=count),
        *_kind(
            "theirs", "from the pool, as an ordinary user", "<= 12", code=servers.HANDLER, rounds=rounds, count=count, user=USER
        ),
    ]
    text = (
        f"{count} functions that never ran are called once each over one connection, {PAUSE_S * 1000:.0f} ms apart, on a node of "
        "their own for each kind; signed beforehand, timed by the client."
    )
    return Section("Starts one by one", text, figures)
