"""Waiting against starting, paired: two nodes of the same code, one that lets calls wait where that seems quicker than starting
and one that starts an environment for every waiting call, are loaded in turn, and each pair of rounds gives one ratio.

    python -m bench.waiting [--rounds 6] [--seconds 3] [--connections 32]

Two loads: a handler that computes for 0.3 ms, and one that does so for 99 calls of 100 and sleeps for a second in the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from bench import load, servers
from ondol.testing.node import Node

CODE = """
import time
def handler(event, context):
    if event.get("number", 1) % 100 == 0:
        time.sleep(1.0)
    ends = time.perf_counter() + 0.0003
    while time.perf_counter() < ends:
        pass
    return {"hello": event["name"]}
"""
WAITING, STARTING = "waits", "starts"
#: By load: the number that its calls count up from, in the events.
LOADS = {"quick": False, "mixed": True}


def bodies(*, mixed: bool) -> list[bytes]:
    return [json.dumps({"name": "you", "number": number if mixed else 1}).encode() for number in range(2_000)]


def environments(node: Node) -> int:
    pool = json.loads(node.ondol("stats", "--json").stdout)["pool"]
    return int(pool["busy"] + pool["idle"])


def measure(rounds: int, seconds: int, connections: int) -> None:
    with servers.ondol_node() as waits, servers.ondol_node(None, "--trust-s-max", "0") as starts:
        nodes = {WAITING: waits, STARTING: starts}
        for name, mixed in LOADS.items():
            requests = {}
            for which, node in nodes.items():
                servers.create(node, name, CODE)
                requests[which] = servers.signed(node, name, bodies(mixed=mixed))
                for many in (1, 1, connections):  # a history first, then all at once
                    load.run(node.endpoint, requests[which], connections=many, seconds=1)
            pairs = []
            for round_ in range(rounds):
                pair = {}
                for which in (WAITING, STARTING) if round_ % 2 else (STARTING, WAITING):
                    result = load.run(nodes[which].endpoint, requests[which], connections=connections, seconds=seconds)
                    pair[which] = result
                    print(
                        f"{name:6} {which:7} {result.per_s:8.0f}/s  p50 {result.p50_us / 1000:7.2f} ms  p99 {result.p99_us / 1000:8.2f} ms"
                        f"  {environments(nodes[which]):3} environments  {result.failed} failed"
                    )
                pairs.append(pair)
            rates = [pair[WAITING].per_s / pair[STARTING].per_s for pair in pairs]
            tails = [pair[WAITING].p99_us / pair[STARTING].p99_us for pair in pairs]
            print(f"{name}: waits / starts: throughput {_said(rates)}, p99 {_said(tails)}")


def _said(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.waiting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    arguments = parser.parse_args()
    if missing := load.available():
        print(missing, file=sys.stderr)
        return 2
    measure(arguments.rounds, arguments.seconds, arguments.connections)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
