"""`/ondol/v1/events`: an owner's deferred calls, seen and acted on; in JSON, with a sentence for every mistake."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.core.catalog import Index, put
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.native.events import OPERATIONS, EventQuery, EventRoutes, listing
from ondol.dialects.native.reading import query_of
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.model import errors
from ondol.model.functions import Function, Handle
from ondol.model.principals import Kind, Principal
from ondol.queues.sqlite import SqliteQueue
from ondol.store import Change
from ondol.testing.clock import VirtualClock
from ondol.testing.suites.queue import call

ACCOUNT, REGION = "123456789012", "eu-west-1"


class Gate:
    def vet(self, _request):
        return True

    def principal(self, request, _body_sha256):
        who = request.header("authorization")
        kind = {"owner": Kind.OWNER, "function": Kind.FUNCTION, "stranger": Kind.OWNER}.get(who, Kind.ANONYMOUS)
        return Principal(kind=kind, account="9" * 12 if who == "stranger" else ACCOUNT, region=REGION, name="who")


def event(id, name="hello", **more):
    return call(id, f"id of {name}", name=name, account=ACCOUNT, region=REGION, **more)


class Api:
    def __init__(self, queue):
        self.queue, self.clock, self.woken = queue, VirtualClock(), 0
        index = Index()
        for number, name in enumerate(("hello", "other"), 1):
            function = Function(id=f"id of {name}", account=ACCOUNT, region=REGION, name=name, latest="r", created_s=0)
            handle = Handle(dialect="aws", account=ACCOUNT, region=REGION, name=name, function=function.id)
            for noun in (function, handle):
                index.apply(Change(number, put(noun).key, put(noun).value))
        events = EventRoutes(events=queue.events, index=index, clock=self.clock, woken=self.wake)
        self.dialect = NativeDialect(gatekeeper=Gate(), parts=[events])

    def wake(self):
        self.woken += 1

    async def __call__(self, method, path, *, who="owner"):
        """(status, JSON) of a request."""
        request = Request(method, "/ondol/v1" + path, [("authorization", who)], Whole(b""))
        response = await self.dialect.serve(request, self.dialect.routes[0])
        return response.status, json.loads(response.body) if response.body else None

    async def ids(self, query=""):
        status, found = await self("GET", "/events" + query)
        assert status == 200
        return [each["id"] for each in found["events"]]


@pytest.fixture
async def api(tmp_path):
    """One call runs, two wait, two are dead; of each state but the first one is of another function."""
    queue = SqliteQueue(tmp_path / "queue.db")
    await queue.enqueue([event("runs"), event("dies", payload=b'{"n": 1}', attempts=2), event("dies too", "other")])
    await queue.claim(5.0, limit=9, lease_s=900.0)
    await queue.dead("dies", "retries exhausted", now_s=7.5, error="it broke")
    await queue.dead("dies too", "chain too long", now_s=8.0)
    await queue.enqueue([event("waits", visible_s=1000.0), event("waits too", "other", visible_s=2000.0)])
    yield Api(queue)
    await queue.close()


async def test_all_are_listed_first_what_runs_then_what_waits_then_the_dead(api):
    assert await api.ids() == ["runs", "waits", "waits too", "dies", "dies too"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("?state=running", ["runs"]),
        ("?state=waiting", ["waits", "waits too"]),
        ("?state=dead", ["dies", "dies too"]),
        ("?function=other", ["waits too", "dies too"]),
        ("?function=hello&state=dead", ["dies"]),
        ("?function=nobody", []),
    ],
)
async def test_a_listing_is_of_a_state_and_a_function(api, query, ids):
    assert await api.ids(query) == ids


async def test_each_shows_what_is_known_of_it_in_its_state(api):
    shown = {each["id"]: each for each in (await api("GET", "/events"))[1]["events"]}
    same = {"function": "hello", "qualifier": None}
    assert shown["runs"] == same | {
        "id": "runs", "state": "running", "accepted_s": 0.0, "attempts": 0, "refusals": 0, "payload_bytes": 2,
    }  # fmt: skip
    assert shown["waits"]["due_s"] == 1000.0
    assert shown["dies"] == same | {
        "id": "dies", "state": "dead", "accepted_s": 0.0, "attempts": 2, "payload_bytes": 8, "ended_s": 7.5,
        "reason": "retries exhausted", "error": "it broke",
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
async def test_pages_of_any_size_give_every_event_once(api, size):
    found, query = [], f"?limit={size}"
    while query:
        _, page = await api("GET", f"/events{query}")
        assert len(page["events"]) <= size
        found += [each["id"] for each in page["events"]]
        query = f"?limit={size}&after={page['next']}" if "next" in page else ""
    assert found == ["runs", "waits", "waits too", "dies", "dies too"]


async def test_one_is_shown_with_its_payload(api):
    status, shown = await api("GET", "/events/dies%20too")
    assert (status, shown["id"], shown["payload"]) == (200, "dies too", {})
    await api.queue.enqueue([event("odd", payload=b"\xff")])
    assert (await api("GET", "/events/odd"))[1]["payload_base64"] == "/w=="


async def test_a_dead_one_is_replayed_under_its_id(api):
    assert await api("POST", "/events/dies/replay") == (202, {"id": "dies", "state": "waiting"})
    assert api.woken == 1
    _, shown = await api("GET", "/events/dies")
    assert (shown["state"], shown["attempts"], shown["accepted_s"]) == ("waiting", 0, api.clock.wall_s())
    assert await api.ids("?state=dead") == ["dies too"]


@pytest.mark.parametrize("one", ["runs", "waits"])
async def test_only_dead_ones_are_replayed(api, one):
    status, answer = await api("POST", f"/events/{one}/replay")
    assert (status, answer["error"], api.woken) == (409, "Busy", 0)


async def test_nothing_is_replayed_for_a_function_that_is_gone(api):
    await api.queue.enqueue([event("orphan", "gone")])
    await api.queue.dead("orphan", "the function is gone", now_s=1.0)
    status, answer = await api("POST", "/events/orphan/replay")
    assert (status, answer["message"]) == (404, "function not found: gone, which event orphan is for")
    assert await api.ids("?function=gone") == ["orphan"]


async def test_one_is_removed_unless_it_runs(api):
    assert await api("DELETE", "/events/waits") == (204, None)
    assert await api("DELETE", "/events/dies") == (204, None)
    assert (await api("DELETE", "/events/runs"))[0] == 409
    assert await api.ids() == ["runs", "waits too", "dies too"]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?function=other", ["runs", "waits", "dies"]),
        ("?function=other&state=dead", ["runs", "waits", "waits too", "dies"]),
        ("?state=waiting", ["runs", "dies", "dies too"]),
        ("", ["runs"]),
    ],
)
async def test_what_is_purged_is_gone_and_what_runs_is_not(api, query, left):
    assert await api("DELETE", f"/events{query}") == (200, {"removed": 5 - len(left)})
    assert await api.ids() == left


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/events?state=sleeping", "state: expected one of waiting, running, dead"),
        ("GET", "/events?limit=0", "limit: expected int >= 1"),
        ("GET", "/events?limit=1001", "limit: expected int <= 1000"),
        ("GET", "/events?limit=%D9%A1", "limit: expected int"),
        ("GET", "/events?after=5", "is not the `next`"),
        ("GET", "/events?after=dead:x", "is not the `next`"),
        ("GET", "/events?state=dead&after=waiting:1", "is not the `next`"),
        ("GET", "/events?fucntion=hello", "there is no query parameter 'fucntion' here; known: function, state, limit, after"),
        ("GET", "/events/dies?state=dead", "known: none"),
        ("DELETE", "/events?state=running", "state: expected one of waiting, dead"),
        ("GET", "/events?" + "&".join(f"a{n}=1" for n in range(40)), "more than 32 parameters"),
    ],
)
async def test_a_mistake_gets_a_sentence(api, method, path, words):
    status, answer = await api(method, path)
    assert (status, answer["error"]) == (400, "InvalidSetting")
    assert words in answer["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/events/x"), ("POST", "/events/x/replay"), ("DELETE", "/events/x")])
async def test_what_is_not_there_is_not_found(api, method, path):
    status, answer = await api(method, path)
    assert (status, answer["message"]) == (404, "event not found: x")


EVERY = [(each.method, each.path.replace("{id}", "dies")) for each in OPERATIONS]


@pytest.mark.parametrize(("method", "path"), EVERY)
async def test_nobody_and_no_function_may_do_anything(api, method, path):
    assert (await api(method, path, who="nobody"))[0] == 401
    assert (await api(method, path, who="function"))[0] == 403
    assert len(await api.ids()) == 5


@pytest.mark.parametrize(("method", "path"), [pair for pair in EVERY if "dies" in pair[1]])
async def test_anothers_events_are_not_there(api, method, path):
    assert (await api(method, path, who="stranger"))[0] == 404
    assert await api("GET", "/events", who="stranger") == (200, {"events": []})
    assert await api("DELETE", "/events", who="stranger") == (200, {"removed": 0})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/events", 405), ("POST", "/events", 405), ("GET", "/events/a/b", 404), ("GET", "/event", 404)],
)
async def test_what_is_not_offered_is_not_found(api, method, path, status):
    assert (await api(method, path))[0] == status


@given(st.dictionaries(st.sampled_from(["function", "state", "limit", "after", "more"]), st.text()), st.text())
def test_any_query_is_understood_or_refused(given_, text):
    for query in (urlencode(given_, errors="replace"), text):
        try:
            understood = listing(query_of(query, EventQuery))
        except errors.InvalidSetting:
            continue
        assert understood.states and 1 <= understood.limit <= 1000 and understood.after >= 0


async def test_a_full_queue_says_so_and_the_event_stays_dead(api, tmp_path):
    from ondol.queues.sqlite import QueueLimits

    queue = SqliteQueue(tmp_path / "small.db", QueueLimits(items_max=1))
    await queue.enqueue([event("dies")])
    await queue.dead("dies", "why", now_s=1.0)
    await queue.enqueue([event("waits")])
    small = Api(queue)
    assert (await small("POST", "/events/dies/replay"))[0] == 429
    assert await small.ids("?state=dead") == ["dies"]
    await queue.close()


def test_every_error_of_the_queue_has_a_status():
    from ondol.dialects.native.refusals import STATUS

    for kind in (errors.NotFound, errors.Conflict, errors.Throttled, errors.OutOfSpace, errors.Invalid):
        assert kind in STATUS
