"""`python -m bench`: measure everything and write bench/RESULTS.md. `--check`: only whether a call has become dearer.

Ratios are made within a round, where the machine was the same for both; the median of rounds is shown with its spread.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from bench import (
    api,
    cold,
    cost,
    deferred,
    journal,
    load,
    memory,
    mixed,
    port_queue,
    servers,
    starts,
    startup,
    upload,
    walls,
    warm,
)
from bench.figures import Figure, Section, page, recorded, regressions
from bench.servers import FLOOR_FORK, FLOORS, FRONTS, ONDOL, PEERS

RESULTS = Path(__file__).with_name("RESULTS.md")
ALLOWED = 0.25
MANY = 32


def ratios(found: warm.Warm, other: str, mode: str, connections: int, of: Callable[[warm.Round], float]) -> list[float]:
    """Ondol to the other, round by round."""
    ours, theirs = (warm.rounds_of(found, name, mode, connections) for name in ("Ondol", other))
    return [of(us) / max(of(them), 1e-9) for us, them in zip(ours, theirs, strict=False)]


def cpu(round_: warm.Round) -> float:
    return round_.cpu_us["all"]


def p50(round_: warm.Round) -> float:
    return float(round_.p50_us)


def check_ratios(found: warm.Warm) -> dict[str, float]:
    """What the check compares: CPU per request, Ondol to the forked floor."""
    return {mode: round(statistics.median(ratios(found, FLOOR_FORK, mode, MANY, cpu)), 3) for mode in warm.MODES}


def warm_sections(found: warm.Warm) -> list[Section]:
    sections = []
    for mode in warm.MODES:
        where = (
            f"server and load generator together on CPU {warm.pin()}"
            if mode == "pinned"
            else "wherever the scheduler puts them"
        )
        for many in warm.CONNECTIONS:
            figures = _warm_figures(found, mode, many)
            if figures:
                title = f"Warm calls, {'pinned' if mode == 'pinned' else 'not pinned'}, {many} connection{'s' * (many > 1)}"
                sections.append(Section(title, f"{where[0].upper()}{where[1:]}; rounds in turn.", figures))
    if found.missing:
        lines = "\n".join(f"- {name}: {reason}" for name, reason in found.missing.items())
        sections.append(Section("Not measured", lines))
    return sections


def _warm_figures(found: warm.Warm, mode: str, many: int) -> list[Figure]:
    figures: list[Figure] = []
    names = list(dict.fromkeys(r.server for r in found.rounds if (r.mode, r.connections) == (mode, many)))
    for name in names:
        rounds = warm.rounds_of(found, name, mode, many)
        rate = ">= 6000" if name.startswith("Ondol") and many == MANY and mode == "free" else ""
        failed = sum(r.failed for r in rounds)
        figures += [
            Figure(what=f"{name}: p50", unit="µs", rounds=[p50(r) for r in rounds], note=found.notes.get(name, "")),
            Figure(what=f"{name}: p99", unit="µs", rounds=[float(r.p99_us) for r in rounds]),
            Figure(
                what=f"{name}: calls",
                unit="/s",
                rounds=[r.per_s for r in rounds],
                target=rate,
                note=f"{failed} failed" if failed else "",
            ),
            Figure(what=f"{name}: CPU per call", unit="µs", rounds=[cpu(r) for r in rounds], note=_parts(rounds)),
        ]
    if "Ondol" in names:
        figures.append(
            Figure(
                what="Ondol: failed calls",
                unit="",
                rounds=[sum(r.failed for r in warm.rounds_of(found, "Ondol", mode, many))],
                target="<= 0",
            )
        )
        for name in names:
            if name.startswith(FRONTS):
                figures.append(Figure(what=f"{name} / Ondol, calls", unit="×", rounds=_gain(found, name, mode, many)))
            elif name != "Ondol":
                target = ("<= 2.5" if many == 1 else "") if name == FLOOR_FORK else ("" if name.startswith("floor") else "< 1")
                figures.append(
                    Figure(what=f"Ondol / {name}, p50", unit="×", rounds=ratios(found, name, mode, many, p50), target=target)
                )
                figures.append(
                    Figure(what=f"Ondol / {name}, CPU per call", unit="×", rounds=ratios(found, name, mode, many, cpu))
                )
    return figures


def _gain(found: warm.Warm, name: str, mode: str, many: int) -> list[float]:
    """How many times as many calls, round by round."""
    return [1 / ratio for ratio in ratios(found, name, mode, many, lambda round_: round_.per_s)]


def _parts(rounds: list[warm.Round]) -> str:
    """What the parts of the node used, in the median."""
    names = [name for name in ("front", "guests", "desk", "keeper", "zygotes", "supervisor") if name in rounds[0].cpu_us]
    return ", ".join(f"{name} {statistics.median(r.cpu_us.get(name, 0.0) for r in rounds):.1f}" for name in names)


def facts(arguments: list[str]) -> list[str]:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "CPU of unknown make",
    )
    memory_mib = memory.machine()["MemTotal"] // 1024
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        f"Machine: {len(os.sched_getaffinity(0))} CPUs ({model}), {memory_mib:,} MiB, Linux {platform.release()}, Python {platform.python_version()}"
        f"{' as the system ships it' if sys.base_prefix == '/usr' else ' of a build of its own'}, "
        f"{'root' if os.geteuid() == 0 else 'an ordinary user'}.",
        f"Date: {day}. Command: `python -m bench{''.join(' ' + word for word in arguments)}`. "
        f"Load average when it began: {os.getloadavg()[0]:.2f}.",
        "The load generator (wrk, one thread, closed loop) runs on the same machine. Only ratios within one run are safe to compare with another machine's.",
        f"Every figure is the median of its rounds. Warm calls are {servers.DISTINCT:,} different requests, signed beforehand where signatures are "
        "understood, sent round and round; all servers run the same handler, which answers a small object made from the event.",
        "Floor (a) answers without doing anything; floor (b) hands each request to one forked worker over a socket pair, without "
        "signatures, logs, limits or isolation.",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="NAME",
        choices=[
            "warm",
            "cold",
            "poisson",
            "starts",
            "burst",
            "mixed",
            "memory",
            "start",
            "upload",
            "queue",
            "journal",
            "deferred",
            "cost",
            "walls",
            "api",
        ],
        help="one of %(choices)s; writes nothing",
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each; writes nothing")
    parser.add_argument(
        "--fronts", type=int, default=2, metavar="N", help="of the node that is measured besides the usual one (%(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="fail when a warm call costs 25 %% more CPU than RESULTS.md records"
    )
    arguments = parser.parse_args()
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, _stopped)
    if why := load.available():
        print(f"bench: {why}", file=sys.stderr)
        return 2
    try:
        return check() if arguments.check else measure(arguments.only, quick=arguments.quick, fronts=arguments.fronts)
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was written", file=sys.stderr)
        return 130


def _stopped(number: int, frame: object) -> None:
    """End what was started; being asked again does not interrupt that."""
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, lambda *_: None)
    raise KeyboardInterrupt


def measure(only: str | None, *, quick: bool, fronts: int) -> int:
    told = facts(sys.argv[1:])
    rounds = 1 if quick else 5
    ratios_now: dict[str, float] = {}

    def warm_rows() -> list[Section]:
        found = warm.measure({**FLOORS, **ONDOL, **servers.fronts(fronts), **PEERS}, rounds=rounds, seconds=1 if quick else 2)
        ratios_now.update(check_ratios(found))
        return warm_sections(found)

    rows: dict[str, Callable[[], list[Section]]] = {
        "warm": warm_rows,
        "cold": lambda: [cold.cold(rounds=1 if quick else 3, count=20 if quick else 100)],
        "poisson": lambda: [starts.poisson(rounds=1 if quick else 2, seconds=4 if quick else 30)],
        "starts": lambda: [starts.kinds(rounds=1 if quick else 3, count=20 if quick else 60)],
        "burst": lambda: [cold.bursts(rounds=rounds, count=count) for count in cold.BURSTS],
        "mixed": lambda: [mixed.mixed(rounds=1 if quick else 3, seconds=5 if quick else 15)],
        "memory": lambda: [memory.memory(rounds=1 if quick else 3)],
        "start": lambda: [startup.startup(rounds=rounds, functions=100 if quick else 1000)],
        "queue": lambda: [port_queue.queue(rounds=rounds, count=2_000 if quick else 40_000)],
        "upload": lambda: [upload.upload(rounds=1 if quick else 3, seconds=4)],
        "journal": lambda: [journal.journal(rounds=1 if quick else 3, lines=1_000_000)],
        "cost": lambda: [cost.cost(rounds=1 if quick else 5, seconds=2)],
        "walls": lambda: [walls.walls(rounds=1 if quick else 9)],
        "api": lambda: api.api(rounds=1 if quick else 5, refused=200 if quick else 2_000, functions=500 if quick else 10_000),
        "deferred": lambda: [deferred.deferred(rounds=1 if quick else 3, seconds=1 if quick else 4)],
    }
    sections, failed = [], []
    for name, row in rows.items():
        if only in (None, name):
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                sections += row()
            except Exception as error:
                failed.append(name)
                print(f"  {name} failed: {error}", file=sys.stderr, flush=True)
                sections.append(Section(name.capitalize(), f"**Failed**: {error}"))
    text = page(told, sections, ratios_now)
    print(text)
    if only is None and not quick:
        RESULTS.write_text(text)
        print(f"written to {RESULTS.name}", file=sys.stderr)
    return 1 if failed else 0


def check() -> int:
    before = recorded(RESULTS.read_text()) if RESULTS.exists() else {}
    if not before:
        print("bench: bench/RESULTS.md holds nothing to compare with; run make bench first", file=sys.stderr)
        return 2
    starts = {FLOOR_FORK: FLOORS[FLOOR_FORK], **ONDOL}
    found = warm.measure(starts, rounds=5, seconds=2, connections=(MANY,))
    now = check_ratios(found)
    print(json.dumps({"recorded": before, "now": now}))
    failed = sum(r.failed for r in found.rounds)
    worse = regressions(before, now, allowed=ALLOWED)
    for sentence in [*worse, *([f"{failed} calls failed"] if failed else [])]:
        print(f"bench: {sentence}", file=sys.stderr)
    return 1 if worse or failed else 0


if __name__ == "__main__":
    sys.exit(main())
