"""Warm calls: every server in turn, round after round, at one connection and at many, pinned and not.

Pinned means that a server with all its children and the load generator share one CPU.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench import load, processes
from bench.servers import FRONTS, PEERS, RESTLESS, WANTED, Server, Start, answer

MODES = ("pinned", "free")
CONNECTIONS = (1, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One server, measured once."""

    server: str
    mode: str
    connections: int
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
    return max(os.sched_getaffinity(0))


def one_round(server: Server, mode: str, connections: int, seconds: int) -> Round:
    """Load for `seconds`, and what it cost."""
    requests = server.requests()
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
) -> Warm:
    """Start all; for each number of connections warm all, then A B C A B C …

    A peer that uses CPU while nobody calls it would slow the others: it is started after them, and alone, for its rounds.
    """
    found = Warm([], {}, {})
    for mode in modes:
        cpus = {pin()} if mode == "pinned" else None
        calm = {
            name: start
            for name, start in starts.items()
            if name not in RESTLESS and not (name.startswith(FRONTS) and mode == "pinned")
        }
        with contextlib.ExitStack() as stack:
            servers = _start_all(stack, calm, cpus, found)
            for many in connections:
                _rounds(servers, mode, many, rounds, seconds, found)
        for name, many in itertools.product(starts.keys() & RESTLESS, connections):
            with contextlib.ExitStack() as stack:
                _rounds(_start_all(stack, {name: starts[name]}, cpus, found), mode, many, rounds, seconds, found)
    return found


def _rounds(servers: Sequence[Server], mode: str, many: int, rounds: int, seconds: int, found: Warm) -> None:
    where = f"{mode}, c={many}"
    servers = [server for server in servers if server.connections_min <= many]
    for server in servers:
        with _excused(server.name, where, found):
            _warm(server, many)
    for _, server in itertools.product(range(rounds), servers):
        if many <= server.connections_max and f"{server.name}, {where}" not in found.missing:
            with _excused(server.name, where, found):
                found.rounds.append(one_round(server, mode, many, seconds))
                _say(found.rounds[-1])


def _start_all(stack: contextlib.ExitStack, starts: Mapping[str, Start], cpus: set[int] | None, found: Warm) -> list[Server]:
    servers = []
    for name, start in starts.items():
        if name not in found.missing:
            with _excused(name, "", found):
                servers.append(stack.enter_context(start(cpus)))
                found.notes.update({name: servers[-1].note} if servers[-1].note else {})
    return servers


@contextlib.contextmanager
def _excused(name: str, where: str, found: Warm) -> Iterator[None]:
    """A peer's failure is written down and ends its part (`where`, or all of it); ours ends the run."""
    try:
        yield
    except Exception as reason:
        if name not in PEERS:
            raise
        found.missing[f"{name}, {where}" if where else name] = str(reason).strip().replace("\n", " ")[:300] or repr(reason)


def _warm(server: Server, connections: int) -> None:
    """As many environments as will be needed, and no wrong answer."""
    got = answer(server)
    if got != WANTED and not server.name.startswith("floor (a)"):
        raise RuntimeError(f"{server.name} answers {got}, not {WANTED}")
    many = min(connections, server.connections_max)
    result = load.run(server.url, server.requests(), connections=many, seconds=server.warm_s, verify=True)
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
