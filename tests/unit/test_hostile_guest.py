"""The node's end of the wire against a guest that lies: it loses its own environment, and nothing else happens.

User code shares its process with the guest, so that every byte here is one that a function can write.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct

import pytest
import uvloop

from ondol.contracts.web import WebContract
from ondol.model.invocations import Report, Status
from ondol.model.limits import RESULT_BYTES_MAX
from ondol.runtime import Answer, Call, Ending
from ondol.runtimes import link as links
from ondol.runtimes import logpipe
from ondol.runtimes.link import STRAY_FRAMES_MAX, Link
from ondol.runtimes.metas import META_BYTES_MAX
from ondol.testing.pool import an_invocation, a_target
from ondol_guest import frames

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("both_ways")]

#: What one guest may make the node keep: a frame, a stream's credit, and room for the reads at hand.
KEPT_BYTES_MAX = frames.FRAME_BYTES_MAX + frames.CREDIT_BYTES + 1024 * 1024


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine on one of the loops; nothing may reach the loop's handler of forgotten exceptions."""

    def run(work):
        accidents = []

        async def watched():
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: accidents.append(context))
            async with asyncio.timeout(30):
                await work

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(watched())
        assert not accidents, accidents

    return run


class FakeChild:
    """A process that never was; it ends when the test says so."""

    pid = 0

    def __init__(self, wire, log):
        self.wire = wire
        self.log = log
        self.gone = asyncio.get_running_loop().create_future()

    async def wait(self):
        return await asyncio.shield(self.gone)


class Guest:
    """The test's end of the two lines, and the node's Link at the other."""

    def __init__(self, link, wire, log, child):
        self.link = link
        self.wire = wire
        self.log = log
        self.child = child
        self.loop = asyncio.get_running_loop()
        self.lines = []
        self.calls = []

    async def send(self, *parts):
        """Whatever the node still takes: it may have hung up."""
        with contextlib.suppress(ConnectionError):
            await self.loop.sock_sendall(self.wire, b"".join(parts))

    async def ready(self, **meta):
        await self.send(frames.pack(frames.READY, 0, json.dumps(meta or {"init_ms": 0}).encode()))

    def call(self, payload=b"{}", body=None):
        """Begin a call; its task."""
        call = Call(meta=b"{}", payload=payload, body=body)

        async def calling():  # from the loop, as the node does: after what has come in already
            return await self.link.call(call, lambda text, _: self.lines.append(text))

        task = asyncio.ensure_future(calling())
        self.calls.append(task)
        return task

    async def called(self, **more):
        """A call that has arrived here; its task."""
        task = self.call(**more)
        await self.loop.sock_recv(self.wire, 1 << 20)
        return task

    async def given_up(self):
        """The node has hung up on this guest."""
        with contextlib.suppress(ConnectionError):
            while await self.loop.sock_recv(self.wire, 1 << 20):
                continue
        assert not self.link.alive


@contextlib.asynccontextmanager
async def a_guest():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    log, writer = os.pipe()
    child = FakeChild(ours.detach(), log)
    idle = []
    link = await Link.open(child, b"", lambda text, _: idle.append(text))
    guest = Guest(link, theirs, writer, child)
    guest.idle = idle
    try:
        yield guest
    finally:
        link.close()
        child.gone.set_result(0)
        await asyncio.gather(*guest.calls, return_exceptions=True)
        await link.ended()
        theirs.close()
        with contextlib.suppress(OSError):
            os.close(guest.log)


async def ended_badly(task):
    answer = await task
    assert answer.ending is Ending.DEAD, answer
    return answer


def result(number, meta=b"", body=b"", flags=0):
    return frames.pack_meta(frames.RESULT, number, meta, body, flags)


# Bytes that are no frames -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x7fELF" * 16,
        frames.HEADER.pack(2, frames.RESULT, 0, 0, 1),
        frames.HEADER.pack(1, frames.RESULT, 0, frames.FRAME_BYTES_MAX + 1, 1),
        frames.HEADER.pack(1, frames.RESULT, 0, 0xFFFFFFFF, 1),
        frames.pack(frames.RESULT, 1, b""),
        frames.pack(frames.RESULT, 1, struct.pack("<I", 5) + b"{}"),
        frames.pack(frames.RESULT, 1, struct.pack("<I", 0xFFFFFFFF) + b"{}"),
        result(1, b"[]"),
        result(1, b"7"),
        result(1, b"null"),
        result(1, b"{"),
        result(1, b"\xff\xfe"),
        result(1, b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        result(1, b"[" * 200_000),
        result(1, b'{"a":"' + b"x" * META_BYTES_MAX + b'"}'),
        result(1, b'{"n":' + b"9" * 100_000 + b"}"),
        frames.pack_meta(frames.INIT_FAILED, 0, b"[]"),
        frames.pack(frames.READY, 0, b"{}"),
    ],
    ids=lambda sent: sent[:24].hex(),
)
def test_a_broken_frame_ends_its_guest_and_its_call(run, bytes_sent):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(bytes_sent)
            answer = await ended_badly(task)
            assert answer.started
            await guest.given_up()

    run(scene())


@pytest.mark.parametrize(
    "said",
    [
        b"[]",
        b'{"init_ms":"x"}',
        b'{"init_ms":NaN}',
        b'{"init_ms":Infinity}',
        b'{"init_ms":null}',
        b'{"init_ms":true}',
        b"{",
        b"[" * 9999,
    ],
)
def test_a_loading_time_that_is_none_ends_its_guest(run, said):
    async def scene():
        async with a_guest() as guest:
            await guest.send(frames.pack(frames.READY, 0, said))
            await guest.given_up()
            await ended_badly(guest.call())

    run(scene())


@pytest.mark.parametrize(
    "said",
    [1e300, 10**12, -5, 10**400, -(10**400)],
    ids=["float", "large", "negative", "larger than a float", "smaller than a float"],
)
def test_loading_cannot_have_taken_longer_than_the_guest_lives(run, said):
    """A call's time begins where loading ended: a guest that says "in a thousand years" must not get them."""

    async def scene():
        async with a_guest() as guest:
            await guest.ready(init_ms=said)
            task = await guest.called()
            await guest.send(result(1, body=b"1"))
            answer = await task
            assert answer.ending is Ending.OK
            assert 0 <= answer.init_ms < 30_000

    run(scene())


# Frames out of place --------------------------------------------------------------------------------------------------------
def test_results_of_calls_that_are_not_under_way_are_nobodys(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            await guest.send(result(0, body=b"zero"), result(1, body=b"early"), result(2**64 - 1, body=b"absurd"))
            await asyncio.sleep(0)
            task = await guest.called()
            await guest.send(result(2, body=b"the next one's"), result(1, body=b"right"))
            assert (await task).body == b"right"
            second = await guest.called()
            await guest.send(result(1, body=b"the last one's"), result(2, body=b"right again"))
            assert (await second).body == b"right again"
            assert guest.link.alive

    run(scene())


@pytest.mark.parametrize("flags", [(0, 0), (0, frames.MORE), (frames.MORE, frames.MORE), (frames.MORE, 0)])
def test_a_call_is_answered_once(run, flags):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(result(1, body=b"one", flags=flags[0]), result(1, body=b"two", flags=flags[1]))
            answer = await task
            if flags[0] & frames.MORE:
                with contextlib.suppress(Exception):
                    assert [chunk async for chunk in answer.body] == [b"one"]
            else:
                assert answer.body == b"one"
            await guest.given_up()

    run(scene())


def test_an_answer_before_loading_ended_is_none(run):
    """Else loading would never end, and every call had loading's time on top of its own."""

    async def scene():
        async with a_guest() as guest:
            task = await guest.called()
            await guest.send(result(1, body=b"1"))
            await ended_badly(task)
            await guest.given_up()

    run(scene())


@pytest.mark.parametrize(
    "again", [frames.pack(frames.READY, 0, b'{"init_ms":1}'), frames.pack_meta(frames.INIT_FAILED, 0, b"{}")]
)
def test_loading_ends_once(run, again):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(again)
            await ended_badly(task)
            await guest.given_up()

    run(scene())


def test_bodies_credits_and_ends_without_a_stream_are_ignored(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            for number in (0, 1, 2, 2**63):
                await guest.send(
                    frames.pack(frames.BODY, number, b"x"),
                    frames.pack(frames.CREDIT, number, b"\xff\xff\xff\xff"),
                    frames.pack(frames.CREDIT, number, b"x"),
                    frames.pack(frames.END, number, b"{"),
                    frames.pack(99, number, b"x"),
                )
            await guest.send(result(1, body=b"done"))
            assert (await task).body == b"done"
            assert guest.link.alive

    run(scene())


@pytest.mark.parametrize("frame", [frames.pack(frames.CREDIT, 7), frames.pack(99, 7), result(5), frames.pack(frames.BODY, 1)])
def test_frames_for_nobody_do_not_go_on_for_ever(run, frame):
    """Each one costs the loop time that belongs to other functions."""

    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(frame * (STRAY_FRAMES_MAX + 2))
            await ended_badly(task)
            await guest.given_up()

    run(scene())


# Streams --------------------------------------------------------------------------------------------------------------------
def test_a_body_beyond_its_credit_ends_the_guest_and_is_not_kept(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(result(1, flags=frames.MORE))
            answer = await task
            chunk = frames.pack(frames.BODY, 1, bytes(frames.CHUNK_BYTES))
            for _ in range(2 * frames.CREDIT_BYTES // frames.CHUNK_BYTES):  # nobody reads them
                await guest.send(chunk)
            await guest.given_up()
            kept = 0
            with pytest.raises(Exception, match="ended before it was complete"):
                async for piece in answer.body:
                    kept += len(piece)
            assert kept <= frames.CREDIT_BYTES

    run(scene())


def test_a_stream_of_single_bytes_makes_the_node_write_next_to_nothing(run):
    """A guest that never reads would let a credit frame for each byte pile up in the node."""

    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(result(1, flags=frames.MORE))
            answer = await task
            count = 20_000

            async def send():
                byte = frames.pack(frames.BODY, 1, b"x")
                for _ in range(count // 1000):
                    await guest.send(byte * 1000)
                await guest.send(frames.pack(frames.BODY, 1, b"", frames.LAST), frames.pack(frames.END, 1, b"{}"))

            sending = asyncio.ensure_future(send())
            assert sum([len(chunk) async for chunk in answer.body]) == count
            await sending
            with pytest.raises(BlockingIOError):
                guest.wire.recv(1)

    run(scene())


async def endless():
    while True:
        yield bytes(frames.CHUNK_BYTES)


@pytest.mark.parametrize("credit", [b"\xff\xff\xff\xff", b"\x03\x00\x00\x00", b"\x00\x00\x00\x00", b"", b"\x01", b"x" * 400])
def test_forged_credit_ends_the_guest(run, credit):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called(body=_silent())
            await guest.send(frames.pack(frames.CREDIT, 1, credit))
            await ended_badly(task)
            await guest.given_up()

    run(scene())


async def _silent():
    await asyncio.sleep(3600)
    yield b""


def test_a_guest_that_never_reads_is_sent_no_more_than_its_credit(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            taken = 0

            async def body():
                nonlocal taken
                async for chunk in endless():
                    taken += len(chunk)
                    yield chunk

            guest.call(payload=b"", body=body())
            for _ in range(200):
                await asyncio.sleep(0)
            assert taken <= frames.CREDIT_BYTES + frames.CHUNK_BYTES

    run(scene())


def test_a_stream_that_its_guest_leaves_ends_for_its_reader(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(result(1, body=b"first", flags=frames.MORE))
            answer = await task
            guest.wire.close()
            with pytest.raises(Exception, match="ended before it was complete"):
                async for _ in answer.body:
                    continue

    run(scene())


def test_a_result_beyond_the_limit_is_too_large_and_the_guest_lives(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(result(1, body=bytes(RESULT_BYTES_MAX + 1)))
            answer = await task
            assert (answer.ending, answer.body) == (Ending.TOO_LARGE, b"")
            task = await guest.called()
            await guest.send(result(2, body=b"small"))
            assert (await task).body == b"small"

    run(scene())


# The log --------------------------------------------------------------------------------------------------------------------
class Written:
    """A log pipe that a hostile writer fills, and what comes out of it."""

    def __init__(self):
        self.fd, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.events = []
        self.marks = 0
        self.pipe = logpipe.LogPipe(self.fd, lambda text, _: self.events.append(text), self.marked)

    def marked(self):
        self.marks += 1

    def fill(self, data):
        """As much of it, again and again, as the pipe takes."""
        written = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                written += os.write(self.writer, data)
        return written


def test_lines_are_taken_in_bounded_helpings(run):
    """`yes ""` writes sixteen thousand events per read: one function must not have the loop to itself."""

    async def scene():
        written = Written()
        try:
            for _ in range(20):
                written.fill(b"\n" * 4096)
                before = len(written.events)
                await asyncio.sleep(0)
                assert len(written.events) - before <= logpipe.READ_BYTES
            assert len(written.events) <= 3 * logpipe.READ_BYTES  # then its share is used up, and it waits
            before = len(written.events)
            written.fill(b"\n" * 4096)
            written.pipe.drain()
            assert len(written.events) - before <= logpipe.DRAIN_EVENTS_MAX + logpipe.READ_BYTES
        finally:
            written.pipe.close()
            os.close(written.writer)

    run(scene())


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 4096,
        frames.LOG_HEADER.pack(frames.LOG_MAGIC, 0xFFFFFFFF, 2**64 - 1),
        frames.LOG_HEADER.pack(frames.LOG_MAGIC, frames.LOG_FRAME_BYTES_MAX, 0),
        frames.LOG_MAGIC_BYTES,
        frames.LOG_PREFIX,
        bytes(range(256)) * 16,
    ],
    ids=["no newline", "absurd length", "longest frame", "magics", "prefixes", "noise"],
)
def test_an_endless_log_without_events_is_not_kept(run, data):
    async def scene():
        written = Written()
        try:
            total = 0
            for _ in range(40):
                total += written.fill(data)
                written.pipe.drain()
            kept = total - sum(len(text.encode()) for text in written.events)
            assert total > 1024 * 1024
            assert len(written.pipe._reader._buffer) <= 512 * 1024, kept
        finally:
            written.pipe.close()
            os.close(written.writer)

    run(scene())


def test_a_log_frame_that_promised_more_takes_nothing_of_the_next_call(run):
    async def scene():
        written = Written()
        try:
            os.write(written.writer, frames.LOG_HEADER.pack(frames.LOG_MAGIC, 50_000_000, 0) + b"a little")
            written.pipe.drain()
            written.pipe.flush()
            os.write(written.writer, frames.LOG_HEADER.pack(frames.LOG_MAGIC, 50_000_000, 0))
            written.pipe.drain()
            written.pipe.flush()
            os.write(written.writer, b"the next call\n")
            written.pipe.drain()
            assert written.events == ["a little", "the next call\n"]
        finally:
            written.pipe.close()
            os.close(written.writer)

    run(scene())


def test_a_closed_log_and_forged_marks_harm_nobody(run):
    async def scene():
        async with a_guest() as guest:
            os.write(guest.log, frames.LOG_HEADER.pack(frames.LOG_MARK, 0, 0) * 1000)
            os.close(guest.log)
            await guest.ready()
            task = await guest.called()
            await guest.send(result(1, body=b"still here"))
            assert (await task).body == b"still here"

    run(scene())


# Ends -------------------------------------------------------------------------------------------------------------------------
def test_descriptors_sent_along_are_dropped(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            before = len(os.listdir("/proc/self/fd"))
            frame = result(1, body=b"with gifts")
            socket.send_fds(guest.wire, [frame], [guest.log] * 200)
            assert (await task).body == b"with gifts"
            assert len(os.listdir("/proc/self/fd")) == before

    run(scene())


def test_a_frame_that_never_ends_is_ended_with_its_guest(run):
    async def scene():
        async with a_guest() as guest:
            await guest.ready()
            task = await guest.called()
            await guest.send(
                frames.HEADER.pack(1, frames.RESULT, 0, frames.FRAME_BYTES_MAX, 1), bytes(frames.FRAME_BYTES_MAX - 1)
            )
            assert len(guest.link._reader._buffer) <= KEPT_BYTES_MAX
            guest.child.gone.set_result(-9)
            await ended_badly(task)
            guest.child.gone = asyncio.get_running_loop().create_future()

    run(scene())


# What contracts make of it ----------------------------------------------------------------------------------------------------
def a_report():
    return Report(
        invocation="i", revision="r", version=None, status=Status.OK, duration_ms=1.0, memory_mib=128, memory_peak_mib=1,
        timeout_s=3, init_ms=None, exit_status=None, trace=None, ended_s=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "meta",
    [
        {"status": "abc"},
        {"status": 101},
        {"status": 99},
        {"status": 10**30},
        {"status": None},
        {"status": [200]},
        {"status": True},
        {"headers": 7},
        {"headers": [["one"]]},
        {"headers": ["ab", 7]},
        {"headers": [["a", "b", "c"]]},
        {"headers": {"a": "b"}},
        {"headers": [["name", ["x"]]]},
        {"headers": [["a\r\nb", "c"]]},
        {"headers": [["a", "b\r\nset-cookie: c"]]},
        {"headers": [["a:", "b"]]},
        {"headers": [["", "b"]]},
        {"headers": [["a", "\u2028"]]},
    ],
    ids=str,
)
def test_a_web_answer_that_is_none_is_a_bad_gateway(meta):
    answer = Answer(ending=Ending.OK, meta=meta, body=b"x")
    outcome = WebContract().outcome(an_invocation("i", a_target()), a_report(), answer)
    assert outcome.head["status"] == 502
    assert outcome.head["headers"] == [("content-type", "application/json")]


def test_the_bounds_are_what_the_guests_keep_to():
    assert frames.CHUNK_BYTES <= frames.CREDIT_BYTES // 2, "a guest with a chunk to send would wait for ever"
    assert links.STRAY_FRAMES_MAX * frames.HEADER_BYTES <= frames.CREDIT_BYTES
