"""`python -m bench.languages`: measures every language that is here and writes docs/reference/runtimes.md.

Two tables: how long calls of the same function take in each language, and what a call comes to there (`shapes`); and the
promises about languages, with what was measured. `--quick`: one short round, and nothing is written. `--only timings`,
`shapes` or `speed`: that part alone, and nothing is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import client, language_speed, load, servers, shapes
from bench.__main__ import facts
from bench.figures import Section, number, section_lines
from bench.programs import Missing, Program, programs
from ondol.testing.node import Node

PAGE: Final = Path(__file__).parents[1] / "docs/reference/runtimes.md"
#: Between first calls: the stock of prepared shells is refilled meanwhile.
PAUSE_S: Final = 0.3
FIRST_CALLS: Final = 10
WARM_CALLS: Final = 200
LARGE_CALLS: Final = 10
STREAMS: Final = 10
LARGE: Final = json.dumps("x" * 1_000_000).encode()

TIMINGS: Final = ("cold p50", "warm p50", "1 MB echoed, p50", "first streamed byte, p50")
#: Columns of one table, which the page begins a line with.
HEADS: Final = {"timings": ("language", *TIMINGS), "shapes": ("language", *shapes.SHAPES)}

PROSE: Final = """# Languages

What calls of the same function come to in each language, made by `python -m bench.languages` (functions: `bench/programs`). A
test records the second table again and compares. Which interpreters and clients are needed: [custom
runtimes](custom-runtimes.md), `ondol doctor`.
"""
TIMED: Final = """## How long it takes

Milliseconds, by a client on the same machine over one connection, from sending to the last byte (of a stream: to the first event
with a payload). Cold: first calls of functions that never ran, 0.3 s apart; warm: one environment, one call after the other.
Median, and in brackets the lowest and the highest.
"""
TOLD: Final = """## What it comes to

`⏎` is a new line, `⇥` a tab. The log is without the platform's lines (START, END, REPORT). Timeouts, crashes and exhausted memory
are told by the platform, in every language alike; `(+ …)` names further keys of an error's payload.
"""


# Timing ----------------------------------------------------------------------------------------------------------------
def first_calls(node: Node, program: Program, label: str, count: int) -> list[float]:
    """Milliseconds of first calls."""
    lambda_client = node.client()
    names = [f"{label}-{n}" for n in range(count)]
    for name in names:
        shapes.deploy(lambda_client, program, name)
    requests = [servers.signed(node, name, [b"1"], **{"X-Amz-Log-Type": "Tail"})[0] for name in names]
    time.sleep(1)
    answers = []
    with client.Connection(node.endpoint) as connection:
        for request in requests:
            answers.append(connection.call(request))
            time.sleep(PAUSE_S)
    good = client.all_good(answers)
    for name in names:
        lambda_client.delete_function(FunctionName=name)
    if any("Init Duration" not in answer.log for answer in good):
        raise RuntimeError("one of the first calls was none: its report has no Init Duration")
    return [answer.ms for answer in good]


def warm_calls(node: Node, name: str, body: bytes, count: int) -> list[float]:
    """Milliseconds of calls of an environment that is up."""
    requests = servers.signed(node, name, [body] * count)
    with client.Connection(node.endpoint) as connection:
        client.all_good([connection.call(requests[0])])
        return [answer.ms for answer in client.all_good([connection.call(request) for request in requests])]


def first_bytes(node: Node, name: str, count: int) -> list[float]:
    """Milliseconds until the first event of an answer that streams."""
    keys = node.credentials
    request = load.signed(
        f"{node.endpoint}/2021-11-15/functions/{name}/response-streaming-invocations", [b'"stream"'], key=keys["AWS_ACCESS_KEY_ID"],
        secret=keys["AWS_SECRET_ACCESS_KEY"], region=keys["AWS_REGION"], service="lambda", headers={},
    )[0]  # fmt: skip
    with client.Connection(node.endpoint) as connection:
        connection.stream(request, b"PayloadChunk")
        return [connection.stream(request, b"PayloadChunk") for _ in range(count)]


def timed(node: Node, program: Program, label: str, *, quick: bool) -> list[Sequence[float] | None]:
    """Milliseconds for each of `TIMINGS`; None for what there is not."""
    share = 0.2 if quick else 1.0
    many = lambda count: max(3, round(count * share))  # noqa: E731
    lambda_client = node.client()
    found: list[Sequence[float] | None] = [first_calls(node, program, label, many(FIRST_CALLS * program.weight))]
    shapes.deploy(lambda_client, program, label)
    found += [warm_calls(node, label, b"1", many(WARM_CALLS)), warm_calls(node, label, LARGE, many(LARGE_CALLS))]
    lambda_client.delete_function(FunctionName=label)
    if not program.streams:
        return [*found, None]
    shapes.deploy(lambda_client, program, label, handler=program.stream_handler)
    found.append(first_bytes(node, label, many(STREAMS)))
    lambda_client.delete_function(FunctionName=label)
    return found


# The page --------------------------------------------------------------------------------------------------------------
def cell(ms: Sequence[float] | None) -> str:
    """A median and its spread."""
    if ms is None:
        return shapes.NONE
    return f"{number(statistics.median(ms))} ({number(min(ms))}–{number(max(ms))})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def read_table(text: str, heads: Sequence[str]) -> dict[str, dict[str, str]]:
    """The rows of the table that has these heads, by language and column; empty when the page has none."""
    _, _, below = text.partition(f"| {' | '.join(heads)} |\n")
    rows = {}
    for line in below.splitlines()[1:]:
        if not line.startswith("| "):
            break
        cells = [each.replace("\0", "\\|") for each in line.replace("\\|", "\0")[2:-2].split(" | ")]
        rows[cells[0]] = dict(zip(heads[1:], cells[1:], strict=True))
    return rows


def page(
    told: Sequence[str],
    timings: dict[str, list[str]],
    recorded: dict[str, dict[str, str]],
    speed: Sequence[Section],
    missing: dict[str, str],
) -> str:
    """The whole of docs/reference/runtimes.md."""
    lines = [PROSE, TIMED, *(f"- {fact}" for fact in told), ""]
    lines += [*table(HEADS["timings"], [[name, *cells] for name, cells in timings.items()]), ""]
    lines += [f"Not measured: {name} ({why})." for name, why in missing.items()] + ([""] if missing else [])
    code = lambda text: text if text == shapes.NONE else f"`{text}`"  # noqa: E731
    shown = [[name, *(code(row[column]) for column in shapes.SHAPES)] for name, row in recorded.items()]
    lines += [TOLD, *table(HEADS["shapes"], shown), "", "## What was promised", ""]
    for section in speed:
        wrapped = dataclasses.replace(section, text=textwrap.fill(section.text, 128))
        lines += section_lines(wrapped, level=3)
    return "\n".join(lines).rstrip() + "\n"


def measure(*, only: str | None, quick: bool) -> str:
    told = facts([])[:2]
    told[1] = told[1].replace("`python -m bench`", f"`python -m bench.languages{' --quick' if quick else ''}`")
    timings: dict[str, list[str]] = {}
    recorded: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    began_s = time.monotonic()
    with servers.ondol_node() as node:
        for at, program in enumerate(programs() if only != "speed" else ()):
            print(f"{time.monotonic() - began_s:5.0f} s  {program.name} …", file=sys.stderr, flush=True)
            try:
                program.files()
            except Missing as why:
                missing[program.name] = str(why)
                continue
            if only != "shapes":
                timings[program.name] = [cell(ms) for ms in timed(node, program, f"lang{at}", quick=quick)]
            if only != "timings":
                recorded[program.name] = shapes.record(node.client(), program, f"shape{at}")
    speed = language_speed.sections(quick=quick) if only in (None, "speed") else []
    print(f"{time.monotonic() - began_s:5.0f} s  done", file=sys.stderr)
    return page(told, timings, recorded, speed, missing)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.languages", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of each; writes nothing")
    parser.add_argument("--only", choices=["timings", "shapes", "speed"], help="that part alone; writes nothing")
    arguments = parser.parse_args()
    text = measure(only=arguments.only, quick=arguments.quick)
    print(text)
    if not arguments.quick and arguments.only is None:
        PAGE.write_text(text)
        print(f"written to {PAGE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
