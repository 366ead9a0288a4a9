"""The node's end of a guest's two lines: any bytes are frames, lines, or the end of that guest, however they are cut."""

from __future__ import annotations

import asyncio
import os

from ondol.runtime import Call
from ondol.runtimes.link import Link
from ondol.runtimes.metas import init_ms_of, meta_of
from ondol_guest import frames

from fuzzing.drawing import Draw, pieces

LOOP = asyncio.new_event_loop()
EVENT_BYTES_MAX = 64

SEEDS = [
    b"\0" + frames.pack(frames.READY, 0, b'{"init_ms": 1.5}') + frames.pack_meta(frames.RESULT, 1, {}, b"{}"),
    b"\0" + frames.pack(frames.READY) + frames.pack_meta(frames.RESULT, 1, {"a": 1}, b"x", frames.MORE)
    + frames.pack(frames.BODY, 1, b"chunk", frames.LAST) + frames.pack(frames.END, 1, b"{}"),
    b"\0" + frames.pack_meta(frames.INIT_FAILED, 0, {"init_ms": 3}, b"no") + frames.pack(frames.CREDIT, 1, frames.META.pack(9)),
    b"\1" + b"line\n" + frames.LOG_HEADER.pack(frames.LOG_MAGIC, 4, 5_000) + b"text" + frames.LOG_HEADER.pack(frames.LOG_MARK, 0, 1),
    b"\2" + b'{"init_ms": 12.5, "status": 200}',
]  # fmt: skip
TOKENS = [
    frames.HEADER.pack(frames.VERSION, kind, flags, 0, number)
    for kind, flags, number in (
        (4, 0, 1),
        (4, 2, 1),
        (4, 4, 1),
        (5, 0, 1),
        (16, 0, 0),
        (18, 1, 1),
        (18, 4, 2),
        (19, 0, 1),
        (20, 0, 0),
    )
] + [
    frames.LOG_MAGIC_BYTES,
    frames.LOG_PREFIX,
    b"\r\n",
    b"\n",
    b"\xff" * 4,
    b"init_ms",
    b"1e999",
    b"9" * 400,
    b"[" * 300,
    b"NaN",
    b"null",
]


class Wire(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self):
        super().__init__()
        self.aborted = False

    def write(self, data):
        pass

    def abort(self):
        self.aborted = True


class Child:
    """A process that never was, and lives on."""

    pid = 0

    def __init__(self):
        self.wire = -1
        self.log, self.writer = os.pipe()

    async def wait(self):
        await asyncio.sleep(3600)


def one(data):
    """The first byte says which line the rest comes on; the last one, how it is cut."""
    kind, draw, data = data[:1], Draw(data[-1:] * 40), data[1:-1]
    if kind == b"\1":
        _log(data, draw)
    elif kind == b"\2":
        _meta(data)
    else:
        _frames(data, draw)
        LOOP.run_until_complete(_link(data, draw))


def _frames(data, draw):
    """Cut or whole, the same frames and the same end; what comes in one piece with what is no frame may go with it."""
    whole, cut = [], []
    for parts, found in (([data], whole), (pieces(data, draw), cut)):
        reader = frames.FrameReader()
        try:
            for part in parts:
                found += reader.feed(part)
        except frames.BrokenFrame:
            found.append("broken")
    if whole[-1:] == ["broken"]:
        assert whole[:-1] == cut[: len(whole) - 1]
        assert cut[-1] == "broken"
    else:
        assert whole == cut


async def _link(data, draw):
    """Nothing but giving this guest up comes of it; a call is answered at most once, and always at the end."""
    child, lines = Child(), []
    link = Link(child, lambda text, at_ms: lines.append(text))
    wire = Wire()
    link.connection_made(wire)
    calls = [
        asyncio.ensure_future(link.call(Call(meta=b"{}", payload=b"x", body=None), lambda text, at_ms: None)) for _ in range(2)
    ]
    await asyncio.sleep(0)
    for part in pieces(data, draw):
        if not wire.aborted:
            link.data_received(part)
    await asyncio.sleep(0)
    link.connection_lost(None)
    link.close()
    for call in calls:
        answer = await call
        assert answer.ending is not None
    link._exit.cancel()
    await asyncio.gather(link._exit, return_exceptions=True)
    os.close(child.writer)


def _log(data, draw):
    """Cut or whole, the same text; no event longer than the bound allows, and nothing left after a flush."""
    texts = []
    for parts in ([data], pieces(data, draw)):
        reader = frames.LogReader(EVENT_BYTES_MAX)
        events = [event for part in parts for event in reader.feed(part)] + reader.flush()
        assert reader.flush() == []
        assert not reader.holds_bytes
        # What is no UTF-8 becomes a character of three bytes.
        assert all(text is None or len(text.encode()) <= 3 * EVENT_BYTES_MAX for text, _ in events)
        texts.append("".join(text or "" for text, _ in events))
    assert len(texts[0]) == len(texts[1]) or "\ufffd" in texts[0] + texts[1]


def _meta(data):
    try:
        meta = meta_of(data)
        assert 0 <= init_ms_of(meta, at_most=1000.0) <= 1000
    except frames.BrokenFrame:
        return
    assert isinstance(dict(meta), dict)
