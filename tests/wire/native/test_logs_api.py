"""`GET /functions/NAME/logs`: pages, and live streams that end when they should."""

from __future__ import annotations

import asyncio
import json

import pytest

from ondol.dialects.native import live
from ondol.dialects.native.live import HEARTBEAT, HEARTBEAT_S, OPENING, POLL_S, STREAM_S_MAX, STREAMS_MAX
from ondol.journal import Batch
from ondol.model.invocations import LogEvent
from ondol.testing.clock import settle

NOW_MS = 1_700_000_000_000
STREAM = [("accept", "text/event-stream")]


@pytest.fixture
async def site(api, home):
    """Writes lines (milliseconds from now, text) of the function `site`."""
    await api.put("site")

    async def write(*lines):
        events = [LogEvent(NOW_MS + at_ms, text) for at_ms, text in lines]
        await api.journal.append([Batch(home.account, home.region, "/ondol/site", "s", events)])

    return write


async def page(api, query=""):
    status, said = await api("GET", f"/functions/site/logs{query}", who="reader")
    assert status == 200, said
    return [entry["message"] for entry in said["entries"]], said["next"]


async def test_a_log_is_read_in_pages(api, site):
    await site((1, "a"), (2, "b"), (3, "c"))
    first, after = await page(api, "?limit=2")
    assert first == ["a", "b"]
    second, after = await page(api, f"?limit=2&after={after}")
    assert second == ["c"]
    assert await page(api, f"?after={after}") == ([], after), "nothing has come yet"
    await site((4, "d"))
    assert (await page(api, f"?after={after}"))[0] == ["d"]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("10s", ["new"]),
        ("2m", ["old", "new"]),
        (str(NOW_MS - 5_000), ["new"]),
        ("0", ["old", "new"]),
        ("999999999d", ["old", "new"]),
    ],
)
async def test_how_far_back_is_an_age_or_a_moment(api, site, since, expected):
    await site((-60_000, "old"), (-1_000, "new"))
    assert (await page(api, f"?since={since}"))[0] == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=yesterday", "since"),
        ("since=-1s", "since"),
        ("since=9999999999d", "since"),
        ("after=x", "after"),
        ("after=" + "9" * 36, "after"),
        ("limit=10001", "limit"),
        ("until=1", "until"),
    ],
)
async def test_a_part_that_cannot_be_is_refused(api, site, query, field):
    await site((1, "a"))
    for headers in ((), STREAM):
        status, said = await api("GET", f"/functions/site/logs?{query}", headers=headers)
        assert (status, said["field"]) == (400, field)


async def test_a_function_that_never_wrote_has_an_empty_log(api, site):
    assert await page(api) == ([], None)
    assert (await api("GET", "/functions/nobody/logs"))[0] == 404


# Live -------------------------------------------------------------------------------------------------------------------
class Following:
    """A client that follows. `some` lets time pass until something comes."""

    def __init__(self, api, body):
        self.api, self.body = api, body
        self.coming = None

    async def some(self, seconds=POLL_S):
        """The next piece: after its own time, or None when none came."""
        self.coming = self.coming or asyncio.ensure_future(anext(self.body, b""))
        await self._settled()
        if not self.coming.done():
            await self.api.clock.advance(seconds)
            await self._settled()
        if not self.coming.done():
            return None
        piece, self.coming = self.coming.result(), None
        return piece

    async def _settled(self):
        """One look is two reads at most, and the journal's reader answers one question after the other."""
        for _ in range(4):
            await settle()
            if self.coming.done():
                return
            await self.api.journal.groups("nobody", "nowhere")

    async def messages(self):
        return [each["message"] for each in events(await self.some() or b"")]

    async def leave(self):
        """As the server does when the client is gone."""
        if self.coming is not None:
            self.coming.cancel()
            await asyncio.wait([self.coming])
        await self.body.aclose()


def events(piece):
    """The data of events; each id is its entry's."""
    found = []
    for event in piece.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if not line.startswith((":", "retry")))
        if fields:
            found.append(json.loads(fields["data"]))
            assert fields["id"] == found[-1]["id"]
    return found


@pytest.fixture
async def follow(api):
    made = []

    async def follow(query="", **headers):
        given = [*STREAM, *((name.replace("_", "-"), value) for name, value in headers.items())]
        response = await api.ask("GET", f"/functions/site/logs{query}", who="reader", headers=given)
        assert response.status == 200, response.body
        assert dict(response.headers)["content-type"] == "text/event-stream"
        client = Following(api, response.body)
        made.append(client)
        assert await client.some() == OPENING
        return client

    yield follow
    for client in made:
        await client.leave()
    assert api.live.streams == 0


async def test_what_comes_is_told_as_it_comes(api, site, follow):
    await site((-5_000, "before"))
    client = await follow()
    assert await client.some() is None
    await site((1, "one"), (2, "two\nlines"))
    assert await client.messages() == ["one", "two\nlines"]
    await site((3, "three"))
    assert await client.messages() == ["three"]
    assert await client.some() is None


async def test_what_is_there_comes_first_where_it_is_asked_for(api, site, follow):
    await site((-5_000, "before"))
    client = await follow("?since=1m")
    assert await client.messages() == ["before"]


async def test_a_group_that_is_not_there_yet_is_waited_for(api, site, follow):
    client = await follow()
    assert await client.some() is None
    await site((1, "first"))
    assert await client.messages() == ["first"]


async def test_a_client_that_comes_back_goes_on_where_it_was(api, site, follow):
    await site((1, "a"), (2, "b"), (3, "c"))
    client = await follow("?since=0")
    told = events(await client.some())
    await client.leave()
    again = await follow("?since=0", last_event_id=told[1]["id"])
    assert await again.messages() == ["c"]
    behind = await follow(f"?after={told[0]['id']}")
    assert await behind.messages() == ["b", "c"]


async def test_what_is_kept_late_is_told_once(api, site, follow):
    client = await follow()
    await site((100, "later"))
    assert await client.messages() == ["later"]
    await site((50, "late"))
    assert await client.messages() == ["late"]
    assert await client.some() is None


async def test_more_than_a_page_comes_without_a_pause(api, site, follow):
    await site(*((n, f"line {n}") for n in range(2_500)))
    client = await follow("?since=0")
    told = []
    while len(told) < 2_500:
        piece = await client.some(0.0)
        assert piece, "no time had to pass"
        told += [each["message"] for each in events(piece)]
    assert told == [f"line {n}" for n in range(2_500)]


async def test_silence_is_said_for_the_proxies_in_between(api, site, follow):
    client = await follow()
    pieces = [await client.some() for _ in range(int(HEARTBEAT_S / POLL_S) + 2)]
    assert [piece for piece in pieces if piece] == [HEARTBEAT]


async def test_a_stream_has_an_end(api, site, follow, monkeypatch):
    monkeypatch.setattr(live, "STREAM_S_MAX", 2 * POLL_S)
    client = await follow()
    pieces = [await client.some() for _ in range(4)]
    assert pieces[-1] == b""
    assert api.live.streams == 0
    assert STREAM_S_MAX == 3600


async def test_streams_end_when_the_front_wants_to_go(api, site, follow):
    client = await follow()
    assert await client.some() is None
    api.live.close()
    assert await client.some() == b""
    assert await (await follow()).some() is None, "another front's clients are served on"


async def test_a_stream_ends_with_the_key_that_opened_it(api, site, follow, home):
    from ondol.core.catalog import delete, put
    from ondol.model.principals import AccessKey

    key = AccessKey(id="who", secret="s", account=home.account, created_s=0.0, read_only=True)
    await api.keys._commits.commit([put(key)])
    client = await follow()
    assert await client.some() is None
    await api.keys._commits.commit([delete(key)])
    await site((1, "not for you"))
    assert await client.some() == b""


async def test_a_client_that_goes_gives_its_place_back(api, site, follow, monkeypatch):
    monkeypatch.setattr(live, "STREAMS_MAX", 2)
    first, _ = await follow(), await follow()
    response = await api.ask("GET", "/functions/site/logs", headers=STREAM)
    assert response.status == 429
    assert dict(response.headers)["retry-after"] == "10"
    await first.leave()
    await follow()
    assert STREAMS_MAX == 64
