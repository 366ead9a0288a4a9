"""Deferred calls through HTTP: how many are accepted, on disk, in a second; and how soon an idle node's handler has one.

Accepting is measured twice: of a function with a reservation of one and a handler that sleeps, so that hardly anything is run
meanwhile; and of one that is run as fast as the node can, which then shares two processors with its clients.
"""

from __future__ import annotations

import json
import re
import time

from bench import client, load, servers
from bench.cold import create_many
from bench.figures import Figure, Section, percentile
from ondol.testing.node import Node

MANY = 32
#: Called one after the other by an idle node, so far apart that none waits for another.
SINGLE = 100
PAUSE_S = 0.03
#: How long log lines may take to where they can be asked for.
LOG_S_MAX = 20.0

#: Says how long the event was under way, on the clock that both ends share.
LAGS = """
import time

def handler(event, context):
    if "sent_s" in event:
        print("lag %.6f" % (time.time() - event["sent_s"]))
"""
SLEEPS = """
import time

def handler(event, context):
    time.sleep(20)
"""


def _event(node: Node, name: str, bodies: list[bytes]) -> list[bytes]:
    return servers.signed(node, name, bodies, **{"X-Amz-Invocation-Type": "Event"})


def accepted(node: Node, name: str, seconds: int) -> tuple[float, float]:
    """Calls accepted per second from 32 connections; p99 of one in ms."""
    requests = _event(node, name, [servers.body(number) for number in range(servers.DISTINCT)])
    url = node.endpoint + servers.path(name)
    result = load.run(url, requests, connections=MANY, seconds=seconds)
    if result.failed:
        raise RuntimeError(f"{result.failed} of {result.requests} deferred calls were not accepted")
    return result.per_s, result.p99_us / 1000


def lags_ms(node: Node, name: str) -> list[float]:
    """From the client's sending to the handler's first line, one call at a time."""
    logs = node.client("logs")
    group = f"/aws/lambda/{name}"
    with client.Connection(node.endpoint) as connection:
        for _ in range(SINGLE):
            body = json.dumps({"sent_s": time.time()}).encode()
            if connection.call(_event(node, name, [body])[0]).status != 202:
                raise RuntimeError("a deferred call was not accepted")
            time.sleep(PAUSE_S)
    end_s = time.monotonic() + LOG_S_MAX
    while True:
        found = [
            event["message"]
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group, filterPattern="lag")
            for event in page["events"]
        ]
        if len(found) >= SINGLE or time.monotonic() > end_s:
            break
        time.sleep(0.2)
    lags = [float(match[1]) * 1000 for message in found if (match := re.match(r"lag ([0-9.]+)", message))]
    if len(lags) < SINGLE:
        raise RuntimeError(f"only {len(lags)} of {SINGLE} deferred calls left their line")
    return lags


def deferred(*, rounds: int, seconds: int) -> Section:
    alone, alone_tails, rates, tails, lags = [], [], [], [], []
    for _ in range(rounds):
        with servers.ondol_node() as node:
            create_many(node, ["lags", "flood"], LAGS)
            create_many(node, ["sleeper"], SLEEPS)
            node.client().put_function_concurrency(FunctionName="sleeper", ReservedConcurrentExecutions=1)
            node.client().invoke(FunctionName="lags", Payload=b"{}")
            time.sleep(1)
            lags.append(lags_ms(node, "lags"))
            per_s, p99_ms = accepted(node, "sleeper", seconds)
            alone.append(per_s)
            alone_tails.append(p99_ms)
            node.client().delete_function(FunctionName="sleeper")
            per_s, p99_ms = accepted(node, "flood", seconds)
            rates.append(per_s)
            tails.append(p99_ms)
    return Section(
        "Deferred calls",
        f"{MANY} connections send signed Event calls for {seconds} s, each answered 202 once it is on disk: to a function of which one "
        f"environment sleeps, then to one that is run meanwhile. And, on an idle node, {SINGLE} calls one after the other, timed by the "
        "handler.",
        [
            Figure(what="accepted through HTTP, 32 connections", unit="/s", rounds=alone, target=">= 6000"),
            Figure(what="one of them, p99", unit="ms", rounds=alone_tails),
            Figure(what="accepted while they are run", unit="/s", rounds=rates),
            Figure(what="one of them, p99", unit="ms", rounds=tails),
            Figure(what="sent to handler, idle node, p50", unit="ms", rounds=[percentile(l, 50) for l in lags], target="<= 5"),
            Figure(what="sent to handler, idle node, p99", unit="ms", rounds=[percentile(l, 99) for l in lags]),
        ],
    )
