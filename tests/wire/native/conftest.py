"""The native API in one process: the desk's parts over a desk of fakes, the front's over a function that this test plays."""

from __future__ import annotations

import base64
import json
import uuid
from types import SimpleNamespace

import msgspec
import pytest

from ondol import config
from ondol.core.commits import Commits
from ondol.core.keys import Keys
from ondol.dialects.native import document
from ondol.dialects.native.calls import Calls
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.native.downloads import Downloads
from ondol.dialects.native.events import EventRoutes
from ondol.dialects.native.functions import Functions
from ondol.dialects.native.keys import KeyRoutes
from ondol.dialects.native.live import LiveLogs
from ondol.dialects.native.logs import Logs
from ondol.dialects.native.node import NodeRoutes
from ondol.dialects.native.operations import JSON
from ondol.dialects.native.records import Records
from ondol.dialects.native.table import TABLE
from ondol.dialects.native.pins import Pins
from ondol.dialects.native.versions import Versions
from ondol.http.bodies import Whole
from ondol.http.messages import Request
from ondol.http.table import Plane, Table
from ondol.journals.segments import SegmentJournal
from ondol.model import errors
from ondol.model.invocations import Outcome, Status
from ondol.model.principals import AccessKey, Kind, Principal
from ondol.node import looking
from ondol.queues.sqlite import SqliteQueue
from ondol.recorders.sqlite import SqliteRecorder
from ondol.testing.clock import VirtualClock
from ondol.testing.desk import desk
from ondol.testing.node import zipped

ACCOUNT, REGION = "123456789012", "eu-west-1"
APP = base64.b64encode(zipped({"app.py": "def app(environ, start_response): ..."})).decode()
STATS = {
    "version": "1.2.3", "started_s": 1.0, "uptime_s": 2.0, "functions": 0, "pool": None,
    "queue": {"waiting": 1, "waiting_bytes": 2, "dead": 3},
    "processes": [{"role": "desk", "pid": 7, "started_s": 1.5, "cpu_s": 0.5, "rss_bytes": 1 << 20, "threads": 3}],
}  # fmt: skip
FINDING = {"part": "disk", "what": "free space", "ok": True, "needed": True, "detail": "much", "mend": "", "means": ""}


class Gate:
    """Knows people by the word in their authorization header."""

    def vet(self, request):
        return self.principal(request, None).kind is not Kind.ANONYMOUS

    def principal(self, request, body_sha256):
        who = request.header("authorization")
        if who == "wrong":
            raise errors.Denied("not one of ours")
        kind = {"owner": Kind.OWNER, "reader": Kind.READER, "function": Kind.FUNCTION}.get(who, Kind.ANONYMOUS)
        return Principal(kind=kind, account=ACCOUNT, region=REGION, name="who", role="r" if kind is Kind.FUNCTION else "")


class Function:
    """Plays every function, and the core in front of it."""

    def __init__(self):
        self.asked, self.deferred, self.checked = [], [], []
        self.outcome = Outcome(status=Status.OK, body=b'{"n": 1}', target_version=None, report=None)

    async def invoke(self, invocation):
        self.asked.append(invocation)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def defer(self, invocation):
        self.deferred.append(invocation)

    async def check(self, invocation):
        self.checked.append(invocation)


class Api:
    def __init__(self, made, path, journal, queue, recorder):
        self.desk, self.path, self.journal, self.recorder, self.clock = made, path, journal, recorder, VirtualClock()
        self.downloads = Downloads(bytes(32), lambda sha256: path / f"{sha256}.zip", self.clock)
        self.function = Function()
        self.live = LiveLogs(journal, self.clock, self.clock.sleep)
        self.gate = Gate()
        #: The node's first key.
        self.first = AccessKey(id="AKIAFIRST", secret="first", account=ACCOUNT, created_s=0.0)
        commits = Commits(made.store, made.index, made.fronts.have)
        drawn = iter(range(10**6))
        self.keys = Keys(
            index=made.index, commits=commits, clock=self.clock, draw=lambda: (f"AKIA{next(drawn)}", uuid.uuid4().hex),
            own=self.first.id,
        )  # fmt: skip
        self.parts = [
            Functions(
                index=made.index, deployments=made.deployments, decode=document.decoding(self.large), spool=self.spool,
                interpreter=lambda revision: f"what runs {revision.configuration.runtime}", downloads=self.downloads,
            ),
            Versions(index=made.index, deployments=made.deployments),
            Pins(index=made.index, deployments=made.deployments, keeping=self.keeping),
            Calls(index=made.index, invoker=self.function),
            Logs(
                index=made.index, journal=journal, group_of=lambda revision: f"/ondol/{revision.name}", clock=self.clock,
                live=self.live,
            ),
            EventRoutes(events=queue.events, index=made.index, clock=self.clock, woken=lambda: None),
            Records(index=made.index, recorder=recorder),
            KeyRoutes(self.keys),
            NodeRoutes(
                stats=self.stats, doctor=self.doctor, settings=lambda: looking.settings(config.load(environ={})),
                declared=TABLE, version="1.2.3",
            ),
        ]  # fmt: skip
        #: By revision: what the pools keep up.
        self.kept = {}
        self.use(self.gate)

    def use(self, gate):
        by_plane = {plane: [part for part in self.parts if part.operations[0].plane is plane] for plane in Plane}
        self.dialects = {
            plane: NativeDialect(gatekeeper=gate, parts=parts, spool=self.spool) for plane, parts in by_plane.items()
        }
        self.table = Table(NativeDialect.routes)

    def spool(self):
        return self.path / uuid.uuid4().hex

    async def keeping(self):
        return self.kept

    async def stats(self, account, region):
        assert (account, region) == (ACCOUNT, REGION)
        return STATS

    async def doctor(self):
        return {"able": True, "findings": [FINDING]}

    async def large(self, job, **given):
        assert job in document.JOBS
        return document.decode(**given)

    async def ask(self, method, path, body=None, *, who="owner", headers=(), prefix="/ondol/v1"):
        """The response to a request, as the process gives it that the routes name."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = [("authorization", who), ("host", "127.0.0.1"), *headers]
        request = Request(method, prefix + path, sent, Whole(raw))
        route = self.table.match(request)
        response = await self.dialects[route.plane].serve(request, route)
        self.checked(request, response)
        return response

    def checked(self, request, response):
        """Every answer is one that its operation declares, in the form that it declares."""
        operation, _ = TABLE.at(request.path).get(request.method, (None, None))
        assert dict(response.headers)["x-request-id"]
        if operation is not None:
            assert response.status in operation.statuses, (operation.id, response.status, response.body)
        kind = dict(response.headers).get("content-type")
        if response.status >= 400:
            said = msgspec.json.decode(response.body)
            assert said["request_id"] == dict(response.headers)["x-request-id"]
            assert set(said) <= {"error", "message", "request_id", "field"}
            assert said["error"] and said["message"]
        elif operation is not None:
            reply = operation.replies[response.status]
            assert (kind is None) == (not reply.media)
            assert kind is None or kind in reply.media
            raw = "answer=payload" in request.query  # then it is the function's own
            if reply.schema and kind == JSON and not raw:
                msgspec.json.decode(response.body, type=reply.schema, strict=True)

    async def __call__(self, method, path, body=None, **more):
        """(status, JSON) of a request."""
        response = await self.ask(method, path, body, **more)
        if not isinstance(response.body, bytes):
            return response.status, b"".join([chunk async for chunk in response.body])
        return response.status, json.loads(response.body) if response.body else None

    async def put(self, name="site", **settings):
        given = {"runtime": "python3.11", "handler": "app:app", "zip_base64": APP, **settings}
        return await self("PUT", f"/functions/{name}", {key: value for key, value in given.items() if value is not None})

    async def aws_function(self, name="hello"):
        """A function of the AWS dialect, as that would make it."""
        from ondol.core.deploy import NewFunction
        from ondol.model.functions import Configuration

        path = self.spool()
        path.write_bytes(zipped({"app.py": "def handler(event, context): ..."}))
        code = await self.desk.deployments.take(path)
        path.unlink()
        made = await self.desk.deployments.create(
            NewFunction(
                dialect="aws", handle=name, account=ACCOUNT, region=REGION, name=name, code=code, tags={},
                configuration=Configuration(contract="aws", runtime="python3.11", handler="app.handler"),
            )
        )  # fmt: skip
        await self.desk.deployments.in_force(made.function.id)
        return made.function


@pytest.fixture
async def api(tmp_path):
    journal, queue = SegmentJournal(tmp_path / "journal"), SqliteQueue(tmp_path / "queue.db")
    recorder = SqliteRecorder(tmp_path / "records.db", VirtualClock())
    async with desk(tmp_path / "code") as made:
        spool = tmp_path / "spool"
        spool.mkdir()
        yield Api(made, spool, journal, queue, recorder)
    for room in (journal, queue, recorder):
        await room.close()


@pytest.fixture
def app_base64():
    return APP


@pytest.fixture
def home():
    return SimpleNamespace(account=ACCOUNT, region=REGION)
