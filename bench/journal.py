"""The log store: appending, and finding a rare line among a million, packed as they lie after a while."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, Section
from ondol.journal import Batch
from ondol.journals.segments import SegmentJournal
from ondol.model.invocations import LogEvent

GROUP = ("000000000000", "local-1", "/aws/lambda/bench")
#: Events in one append, as fronts send them, and streams that they come from.
BATCH, STREAMS = 2_000, 8
NEEDLE = "needle-0f3c"
#: Where the loop is looked at while a search runs.
TICK_S = 0.001


def line(number: int, draw: random.Random) -> str:
    """Like a function's: a time, a request's id, a level, words and numbers; some 140 bytes."""
    at = f"2026-01-01T10:{number // 60_000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}Z"
    words = f"processed order {number} of customer {draw.randrange(100_000)} in {draw.randrange(900)}.{number % 10} ms"
    return f"{at}\t{draw.getrandbits(128):032x}\tINFO\t{words}\n"


async def measured(lines: list[str]) -> dict[str, float]:
    """One round on a journal of its own."""
    with tempfile.TemporaryDirectory() as folder:
        journal = SegmentJournal(Path(folder))
        cpu_s, began_s = time.process_time(), time.perf_counter()
        for start in range(0, len(lines), BATCH):
            events = [LogEvent(1_767_225_600_000 + start + n, text) for n, text in enumerate(lines[start : start + BATCH])]
            await journal.append([Batch(*GROUP, f"s{start // BATCH % STREAMS}", events)])
        append_s = time.perf_counter() - began_s
        await journal.packed()
        cpu_s = time.process_time() - cpu_s
        [group] = await journal.groups(*GROUP[:2])
        held = asyncio.create_task(_held_ms())
        began_s = time.perf_counter()
        found = await journal.entries(*GROUP, terms=[NEEDLE])
        search_s = time.perf_counter() - began_s
        held.cancel()
        began_s = time.perf_counter()
        await journal.entries(*GROUP, newest_first=True, limit=100)
        newest_s = time.perf_counter() - began_s
        await journal.close()
    if len(found) != 1:
        raise RuntimeError(f"the search found {len(found)} lines, and there is one")
    return {
        "append": len(lines) / append_s,
        "cpu": len(lines) / cpu_s,
        "search": search_s,
        "newest": newest_s * 1000,
        "held": await held,
        "ratio": sum(map(len, lines)) / group.stored_bytes,
    }


async def _held_ms() -> float:
    """The longest time by which the loop came late, until cancelled; in milliseconds."""
    worst_s = 0.0
    try:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(TICK_S)
            worst_s = max(worst_s, time.perf_counter() - began_s - TICK_S)
    except asyncio.CancelledError:
        return worst_s * 1000


def journal(*, rounds: int, lines: int) -> Section:
    draw = random.Random(1)  # noqa: S311  # text, not secrets
    texts = [line(number, draw) for number in range(lines)]
    texts[lines // 3] = texts[lines // 3].rstrip("\n") + f" {NEEDLE}\n"
    found = [asyncio.run(measured(texts)) for _ in range(rounds)]

    def figure(what: str, unit: str, name: str, target: str = "") -> Figure:
        return Figure(what=what, unit=unit, rounds=[each[name] for each in found], target=target)

    text = (
        f"{lines:,} lines of {sum(map(len, texts)) // lines} bytes from {STREAMS} streams, {BATCH:,} to an append, in one process; "
        "segments are packed while they come. Then one line among them is looked for by a word that only it has."
    )
    figures = [
        figure("appending", "lines/s", "append"),
        figure("appending and packing, per second of CPU", "lines/s", "cpu", ">= 50000"),
        figure(f"finding one line among {lines:,}", "s", "search", "<= 1"),
        figure("the newest 100 lines", "ms", "newest"),
        figure("the longest that the loop was held during the search", "ms", "held"),
        figure("text / bytes on disk", "×", "ratio"),
    ]
    return Section("Logs", text, figures)
