"""Warm calls: every server in turn, round after round, at one connection and at many, pinned and not.

Pinned means that a server with all its children and the load generator share one CPU.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import load, processes
from bench.servers import WANTED, Missing, Server, Start, answer

MODES = ("pinned", "free")
CONNECTIONS = (1, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One server, measured once."""

    server: str
    mode: str
    connections: int
    number: int
    p50_us: int
    p99_us: int
    per_s: float
    failed: int
    #: Per request: "all", and Ondol's parts.
    cpu_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Warm:
    """All rounds, what is to be said about servers, and who is missing."""

    rounds: list[Round]
    notes: dict[str, str]
    missing: dict[str, str]


def pin() -> int:
    """The CPU for pinned rounds: the last one we may use, since the first serves more interrupts."""
    import os

    return max(os.sched_getaffinity(0))


def one_round(server: Server, mode: str, connections: int, number: int, seconds: int) -> Round:
    """Load for `seconds`, and what it cost."""
    requests = server.requests()
    with processes.awake(server.pid) if server.restless else contextlib.nullcontext():
        return _one_round(server, requests, mode, connections, number, seconds)


def _one_round(server: Server, requests: list[bytes], mode: str, connections: int, number: int, seconds: int) -> Round:
    before = processes.cpu_us(server.pid, parts=server.parts)
    result = load.run(
        server.url, requests, connections=connections, seconds=seconds, pin=str(pin()) if mode == "pinned" else None
    )
    after = processes.cpu_us(server.pid, parts=server.parts)
    if not result.requests:
        raise RuntimeError(f"{server.name} answered nothing within {seconds} s")
    used = {part: (after[part] - before.get(part, 0.0)) / result.requests for part in after}
    return Round(
        server=server.name,
        mode=mode,
        connections=connections,
        number=number,
        p50_us=result.p50_us,
        p99_us=result.p99_us,
        per_s=result.per_s,
        failed=result.failed,
        cpu_us=used,
    )


def measure(
    starts: Mapping[str, Start],
    *,
    rounds: int,
    seconds: int,
    connections: Sequence[int] = CONNECTIONS,
    modes: Sequence[str] = MODES,
    verify: bool = True,
) -> Warm:
    """Start all, warm all, then A B C A B C …"""
    found = Warm([], {}, {})
    for mode in modes:
        with contextlib.ExitStack() as stack:
            servers = []
            for name, start in starts.items():
                if name in found.missing:
                    continue
                with contextlib.ExitStack() as own:
                    try:
                        server = own.enter_context(start({pin()} if mode == "pinned" else None))
                        with processes.awake(server.pid) if server.restless else contextlib.nullcontext():
                            _warm(server, max(connections), verify=verify)
                    except (Missing, RuntimeError, OSError) as reason:
                        if name == "Ondol":
                            raise
                        found.missing[name] = str(reason).strip().replace("\n", " ")[:300]
                        continue
                    stack.push(own.pop_all())
                servers.append(server)
                found.notes.update({server.name: server.note} if server.note else {})
            for many in connections:
                for number in range(rounds):
                    for server in servers:
                        if many <= server.connections_max:
                            found.rounds.append(one_round(server, mode, many, number, seconds))
                            _say(found.rounds[-1])
    return found


def _warm(server: Server, connections: int, *, verify: bool) -> None:
    """As many environments as will be needed, and no wrong answer."""
    got = answer(server)
    if got != WANTED and not server.name.startswith("floor (a)"):
        raise RuntimeError(f"{server.name} answers {got}, not {WANTED}")
    many = min(connections, server.connections_max)
    result = load.run(server.url, server.requests(), connections=many, seconds=1, verify=verify)
    if result.failed:
        raise RuntimeError(
            f"{server.name} failed {result.failed} of {result.requests} requests while it was warmed: {result.wrong}"
        )


def _say(round_: Round) -> None:
    print(
        f"  {round_.mode:6} c={round_.connections:<2} {round_.server:24} {round_.p50_us:>7} µs {round_.per_s:>8.0f}/s "
        f"{round_.cpu_us['all']:>7.1f} µs CPU" + (f"  {round_.failed} FAILED" if round_.failed else ""),
        file=sys.stderr,
        flush=True,
    )


def rounds_of(warm: Warm, server: str, mode: str, connections: int) -> list[Round]:
    return [r for r in warm.rounds if (r.server, r.mode, r.connections) == (server, mode, connections)]
