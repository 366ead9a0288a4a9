"""What comes out of a guest's log pipe: lines with and without a time of their own, in the order in which they were written."""

import asyncio
import os

from ondol.runtimes.logpipe import LogPipe
from ondol_guest import frames


def record(text, at_us):
    """A record of the guest's logger."""
    return frames.LOG_HEADER.pack(frames.LOG_MAGIC, len(text), at_us) + text


async def read(*written):
    """The events of what is written before anybody reads."""
    events = []
    reading, writing = os.pipe()
    pipe = LogPipe(reading, lambda text, at_ms: events.append((text, at_ms)), lambda: None)
    try:
        os.write(writing, b"".join(written))
        pipe.drain()
    finally:
        pipe.close()
        os.close(writing)
    return events


def test_a_record_has_the_time_of_its_making():
    assert asyncio.run(read(record(b"a", 5_000), record(b"b", 6_999))) == [("a", 5), ("b", 6)]


def test_a_printed_line_has_none_of_its_own():
    events = asyncio.run(read(record(b"first", 5_000), b"printed\n", record(b"logged", 6_000), b"again\n"))
    assert events == [("first", 5), ("printed\n", None), ("logged", 6), ("again\n", None)]
