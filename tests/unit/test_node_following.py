"""Fronts follow the catalog: snapshots, changes, who is late, who is gone. Both halves over real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from ondol.core.catalog import Index
from ondol.model.errors import Unavailable
from ondol.node import following
from ondol.node.following import Followers, Following
from ondol.store import Change, Document


def document(name, number):
    return Document(f"key/{name}", {"id": name, "secret": f"s{number}", "account": "1", "created_s": 0.0}, number)


def change(name, number, *, gone=False):
    return Change(number, f"key/{name}", None if gone else document(name, number).value)


class Line:
    """Connects a Following to a Followers; can be down, and its desk end can stop reading."""

    def __init__(self, followers):
        self.followers = followers
        self.down = False
        self.connects = 0
        self.links = []

    async def __call__(self, factory):
        self.connects += 1
        if self.down:
            raise ConnectionRefusedError
        one, two = socket.socketpair()
        one.setblocking(False)
        two.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(self.followers.link, sock=two)
        self.links.append(link)
        return await loop.create_unix_connection(factory, sock=one)


async def _echo(_link, value):
    return value


@asynccontextmanager
async def node(handlers=None, seconds_max=0.2, more=None):
    followers = Followers(handlers or {}, seconds_max)
    followers.load(2, [document("a", 1), document("b", 2)])
    line, index = Line(followers), Index()
    front = Following(line, index, {"run": _echo, **(more or {})})
    serving = asyncio.create_task(front.serve())
    try:
        yield followers, line, index, front
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        followers.close()
        await asyncio.sleep(0.01)


async def test_a_front_is_ready_with_the_whole_catalog():
    async with node() as (_, _, index, front):
        assert not front.ready.is_set()
        await front.ready.wait()
        assert sorted(index.documents()) == ["key/a", "key/b"]
        assert index.number == 2


async def test_a_change_is_in_force_once_the_front_has_it():
    async with node() as (followers, _, index, front):
        await front.ready.wait()
        followers.changed([change("c", 3), change("a", 4, gone=True)])
        await followers.have(4)
        assert (index.key("c").secret, index.key("a"), index.number) == ("s3", None, 4)


async def test_changes_right_behind_the_snapshot_are_not_lost():
    async with node() as (followers, line, index, front):
        while not line.links or not followers._links:
            await asyncio.sleep(0)
        for number in range(3, 300):
            followers.changed([change("c", number)])
        await front.ready.wait()
        await followers.have(299)
        assert index.key("c").secret == "s299"


async def test_a_front_that_comes_late_is_sent_what_the_index_has():
    async with node() as (followers, line, index, front):
        await front.ready.wait()
        theirs = Index()
        theirs.load(2, [document("a", 1), document("b", 2)])
        followers.lean(theirs.packed)
        line.down = True
        line.links[0].close()
        await line.links[0].lost
        for each in (change("a", 3, gone=True), change("c", 4)):
            theirs.apply(each)
            followers.changed([each])
        line.down = False
        await followers.have(4)
        assert sorted(index.documents()) == ["key/b", "key/c"]
        assert (index.key("c"), index.revision_of("key/c")) == (theirs.key("c"), 4)
        each = change("d", 5)
        theirs.apply(each)
        followers.changed([each])
        await followers.have(5)
        assert index.key("d").secret == "s5"


async def test_a_front_that_comes_back_learns_what_went_and_what_came():
    async with node() as (followers, line, index, front):
        await front.ready.wait()
        line.down = True
        line.links[0].close()
        await line.links[0].lost
        followers.changed([change("a", 3, gone=True), change("c", 4)])
        heard = []
        index.listeners.append(lambda key, noun: heard.append((key, noun is None)))
        line.down = False
        await followers.have(4)
        assert sorted(heard) == [("key/a", True), ("key/c", False)]
        assert sorted(index.documents()) == ["key/b", "key/c"]
        assert front.ready.is_set()


async def test_a_front_that_starts_takes_up_what_has_come_and_is_ready_with_the_word_that_it_is_all(monkeypatch):
    monkeypatch.setattr(following, "PIECE_DOCUMENTS", 1)
    async with node() as (followers, _, index, front):
        followers.hold()
        async with asyncio.timeout(20):
            while len(index.documents()) < 2:
                await asyncio.sleep(0)
        assert not front.ready.is_set()
        followers.release()
        await front.ready.wait()
        assert index.number == 2


async def test_a_front_that_serves_takes_up_a_new_snapshot_in_one_go(monkeypatch):
    monkeypatch.setattr(following, "PIECE_DOCUMENTS", 1)
    async with node() as (followers, line, index, front):
        await front.ready.wait()
        line.down = True
        line.links[0].close()
        await line.links[0].lost
        followers.changed([change("a", 3, gone=True), change("c", 4), change("d", 5)])
        followers.hold()
        line.down = False
        async with asyncio.timeout(20):
            while len(front._held) < 3:
                await asyncio.sleep(0)
        assert sorted(index.documents()) == ["key/a", "key/b"]
        followers.changed([change("d", 6, gone=True), change("e", 7)])  # behind the pieces, before the word
        followers.release()
        await followers.have(7)
        assert sorted(index.documents()) == ["key/b", "key/c", "key/e"]


async def test_a_change_waits_for_a_front_that_is_on_its_way():
    async with node() as (followers, _, index, _):
        followers.changed([change("c", 3)])
        await followers.have(3)  # nobody is there yet: a restarted desk meets a front that serves what it knew
        assert index.number == 3


async def test_a_change_does_not_wait_for_ever_for_a_front_that_does_not_come():
    followers = Followers({}, 0.05)
    followers.load(1, [document("a", 1)])
    async with asyncio.timeout(5):
        await followers.have(1)
        await followers.have(1)


async def test_a_front_that_does_not_answer_is_cut_off_and_comes_back_with_everything():
    async with node() as (followers, line, index, front):
        await front.ready.wait()
        true_cast = line.links[0].cast
        line.links[0].cast = lambda name, value: name == "change" or true_cast(name, value)  # the change is lost on its way
        followers.changed([change("c", 3)])
        await followers.have(3)
        assert index.key("c") is not None
        assert len(line.links) == 2


async def test_a_front_that_misses_a_change_gets_a_snapshot_though_nobody_waits_for_it():
    async with node() as (followers, line, index, front):
        await front.ready.wait()
        line.links[0].cast = lambda _name, _value: False  # too much waits to be sent
        followers.changed([change("c", 3)])
        async with asyncio.timeout(20):
            while index.key("c") is None:
                await asyncio.sleep(0.01)
        assert len(line.links) == 2


async def test_a_front_that_reads_nothing_any_more_is_let_go_at_once():
    followers = Followers({}, 0.1)
    followers.load(1, [document("a", 1)])
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        _, link = await asyncio.get_running_loop().create_unix_connection(followers.link, sock=theirs)
        message = msgspec.msgpack.encode((1, "follow", []))
        ours.send(len(message).to_bytes(4, "little") + message)
        while not followers._links:
            await asyncio.sleep(0)
        followers.changed([Change(2, "key/big", {"secret": "x" * 5_000_000})])
        await followers.have(2)
        async with asyncio.timeout(20):
            await link.lost


async def test_without_a_line_calls_are_refused_and_casts_are_not_taken():
    async with node() as (_, line, _, front):
        line.down = True
        assert not front.cast("log", [])
        with pytest.raises(Unavailable, match="restarted"):
            await front.call("defer", {})


async def test_a_desk_that_does_not_answer_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(following, "ANSWER_S_MAX", 0.05)

    async def stuck(_link, _value):
        await asyncio.Event().wait()

    async with node({"defer": stuck, "echo": _echo}) as (_, _, _, front):
        await front.ready.wait()
        with pytest.raises(Unavailable, match="did not answer"):
            await front.call("defer", 1)
        assert await front.call("echo", 7) == 7  # the line itself goes on


async def test_calls_go_both_ways():
    async def take(_link, value):
        return value + 1

    async with node({"defer": take}) as (followers, _, _, front):
        with pytest.raises(Unavailable, match="no front"):
            await followers.run([{"id": "early", "attempts": 0}, 1])
        await front.ready.wait()
        assert await front.call("defer", 1) == 2
        item = [{"id": "item", "attempts": 0}, 1]
        assert await followers.run(item) == item


async def test_the_last_casts_arrive_before_the_line_is_closed():
    got = []

    async def take(_link, value):
        got.append(len(value))

    async with node({"log": take}) as (_, line, _, front):
        await front.ready.wait()
        for _ in range(20):
            assert front.cast("log", b"x" * 500_000)
        await front.flushed(5)
        await line.links[0].lost
        assert got == [500_000] * 20
        assert line.connects == 1


async def test_a_desk_with_an_older_catalog_is_believed():
    async with node() as (followers, line, index, front):
        await front.ready.wait()
        followers.changed([change("c", 9)])
        await followers.have(9)
        followers.load(1, [document("a", 1)])  # restored from a backup
        line.links[0].close()
        await line.links[0].lost
        await followers.have(1)
        assert (index.number, index.documents()) == (1, ["key/a"])


async def test_every_front_is_asked():
    async with node(more={"stats": _echo}) as (followers, line, _, front):
        assert await followers.ask("stats", 7, 20.0) == [], "none is there yet"
        await front.ready.wait()
        other = Following(line, Index(), {"run": _echo, "stats": _echo})
        serving = asyncio.create_task(other.serve())
        await other.ready.wait()
        assert await followers.ask("stats", 7, 20.0) == [7, 7]
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def test_a_front_that_fails_or_does_not_answer_is_left_out():
    never = asyncio.Event()

    async def fails(_link, _value):
        raise Unavailable("not now")

    async def waits(_link, _value):
        await never.wait()

    async with node(more={"fails": fails, "waits": waits}) as (followers, _, _, front):
        await front.ready.wait()
        assert await followers.ask("fails", None, 20.0) == []
        assert await followers.ask("waits", None, 0.01) == []
        never.set()


# Several fronts -----------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def three(seconds_max=0.2, tries=()):
    """A desk with three fronts, each of which says who it is when it is asked to run something; `tries`: what the second has."""
    followers = Followers({}, seconds_max, fronts=3)
    followers.load(1, [document("a", 1)])
    held, begun, fronts = asyncio.Event(), [], []

    def front(number):
        async def run(_link, value):
            begun.append((number, value[0]["id"]))
            await held.wait()
            return number

        return Following(Line(followers), Index(), {"run": run}, tries=(lambda: tries) if number == 1 else tuple)

    fronts = [front(number) for number in range(3)]
    serving = [asyncio.create_task(front.serve()) for front in fronts]
    try:
        yield followers, fronts, held, begun
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def event(name):
    return [{"id": name, "attempts": 0}, 1]


async def test_deferred_calls_go_to_the_front_that_runs_the_fewest():
    async with three() as (followers, _, held, begun):
        await followers.followed()
        runs = [asyncio.create_task(followers.run(event(f"e{number}"))) for number in range(6)]
        while len(begun) < 6:
            await asyncio.sleep(0)
        assert sorted(number for number, _ in begun) == [0, 0, 1, 1, 2, 2]
        held.set()
        await asyncio.gather(*runs)
        assert not followers._runs
        assert not followers._tries


async def test_a_deferred_call_that_a_front_has_already_is_asked_of_that_front():
    async with three(tries=[("mine", 0)]) as (followers, _, held, _begun):
        await followers.followed()
        held.set()
        assert await followers.run(event("mine")) == 1


async def test_deferred_calls_begin_when_all_fronts_are_there_but_wait_for_none_that_does_not_come():
    followers = Followers({}, 0.05, fronts=2)
    followers.load(1, [document("a", 1)])
    front = Following(Line(followers), Index(), {"run": _echo})
    serving = asyncio.create_task(front.serve())
    async with asyncio.timeout(20):
        await followers.followed()
    assert len(followers._links) == 1
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_a_change_is_in_force_when_every_front_has_it_and_a_front_that_is_gone_holds_nothing_up_for_ever():
    async with three(seconds_max=0.5) as (followers, fronts, _, _begun):
        await followers.followed()
        followers.changed([change("c", 2)])
        await followers.have(2)
        assert all(front._index.key("c") is not None for front in fronts)
        followers.changed([change("d", 3)])
        slow = fronts[2]._link
        true_take, slow._take = slow._take, lambda message, size: None  # it reads nothing any more
        async with asyncio.timeout(20):
            await followers.have(3)
        assert all(front._index.key("d") is not None for front in fronts[:2])
        slow._take = true_take


async def test_who_listens_hears_of_each_front_that_is_lost():
    async with three() as (followers, fronts, _, _begun):
        await followers.followed()
        lost = []
        followers.listeners.append(lost.append)
        gone = list(followers._links)[1]
        gone.close()
        await gone.lost
        assert lost == [gone]
