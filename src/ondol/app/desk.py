"""The desk, on one page: the control plane's rooms and how they are joined."""

from __future__ import annotations

import functools
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ondol import __version__
from ondol.app.shared import CONTRACTS, TABLE, choice_of, describing, verifier_of
from ondol.blobstores import folder
from ondol.blobstores.folder import FolderBlobs
from ondol.blobstores.tree import clear
from ondol.blobstores.worker import Helper
from ondol.clock import Clock, SteadyClock, SystemClock
from ondol.config import Settings
from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.core.commits import Commits
from ondol.core.deferrals import rules
from ondol.core.deferred import Dispatcher, Observe
from ondol.core.deploy import Deployments
from ondol.core.keys import Keys, standing
from ondol.core.outcomes import Outcomes
from ondol.core.retry import PAUSE_S_MAX
from ondol.core.totals import Totals
from ondol.dialects.aws import decoding
from ondol.dialects.aws.access import Access
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsDesk
from ondol.dialects.aws.embedded import embedding
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.iam import Iam
from ondol.dialects.aws.logs import Logs
from ondol.dialects.aws.monitoring import Monitoring
from ondol.dialects.aws.objects import Objects
from ondol.dialects.aws.provisioned import Keeping
from ondol.dialects.aws.records import record
from ondol.dialects.aws.service import Operations
from ondol.dialects.aws.sts import Sts
from ondol.dialects.aws.upstreams import ANY, Server, Upstreams, split
from ondol.dialects.native import document
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.native.downloads import Downloads
from ondol.dialects.native.events import EventRoutes
from ondol.dialects.native.functions import Functions
from ondol.dialects.native.keys import KeyRoutes
from ondol.dialects.native.live import LiveLogs
from ondol.dialects.native.logs import Logs as NativeLogs
from ondol.dialects.native.node import NodeRoutes
from ondol.dialects.native.operations import Part
from ondol.dialects.native.pins import Pins
from ondol.dialects.native.records import Records
from ondol.dialects.native.table import TABLE as DECLARED
from ondol.dialects.native.versions import Versions
from ondol.dialects.prometheus.dialect import PrometheusDialect
from ondol.http.client import ClientLimits, HttpClient
from ondol.http.dialling import client_of
from ondol.http.server import Server as HttpServer
from ondol.http.unix import connect
from ondol.journals.segments import SegmentJournal
from ondol.meters.sqlite import SqliteMeter
from ondol.node import desk_work, emulator, joining, looking, tailing
from ondol.node.deferring import asking, naming, taking
from ondol.node.doors import CALLER, DeskDoor
from ondol.node.following import Followers
from ondol.node.journaling import Journaling
from ondol.node.keys import fresh_pair
from ondol.node.lending import Lending
from ondol.node.levels import LevelsEverywhere
from ondol.node.link import Handler
from ondol.node.measuring import Measures, both
from ondol.node.orders import Orders
from ondol.node.serving import Tasks, until_stopped
from ondol.queue import QueueSize
from ondol.queues.sqlite import SqliteQueue
from ondol.recorders.sqlite import SqliteRecorder
from ondol.runtimes.ahead import described
from ondol.runtimes.choice import Choice
from ondol.runtimes.interpreters import Interpreter
from ondol.runtimes.managed import lacking
from ondol.sinks.otel import OtelSink
from ondol.stores.sqlite import SqliteStore

#: The emulator takes seconds to start.
UPSTREAM_LIMITS: Final = ClientLimits(connect_s=15.0)


async def desk(orders: Orders, line: socket.socket) -> None:
    """The control plane."""
    settings, clock, tasks, index, data = orders.settings, SystemClock(), Tasks(), Index(), joining.places(orders.data)
    steady, beyond = SteadyClock(clock), upstreams_of(settings, data.run)
    store, queue, journal = SqliteStore(data.catalog), SqliteQueue(data.queue), SegmentJournal(data.journals)
    meter, recorder, totals = SqliteMeter(data.metrics, clock), SqliteRecorder(data.records, clock), Totals()
    measures = Measures(meter, recorder, totals, sinks_of(settings, totals), index=index, clock=clock)
    helper = Helper({**folder.JOBS, **decoding.JOBS, **document.JOBS}, clear=partial(clear, data.tmp))
    blobs = FolderBlobs(data.code, data.tmp, helper.call)
    data.empty_tmp()
    live, logged = LiveLogs(journal, clock), both(Journaling(journal, clock).take, embedding(meter, totals, clock))
    handlers = {"log": logged, "measured": measures.handler, tailing.LEAVING: tailing.leaving(live.close)}
    shared = across_fronts(settings, index)
    followers = followers_of(settings, handlers, measures, shared)
    dispatcher = dispatching(queue, index, followers, steady, measures.observe)
    keeping = looking.keeping(followers)
    links = await desk_work.load(store, index, followers, tasks, orders.listener("link"))
    deployments = Deployments(
        store=store, blobs=blobs, index=index, clock=clock, ids=lambda: uuid.uuid4().hex, fronts_have=followers.have,
        isolation=orders.levels, networks=orders.networks,
    )  # fmt: skip
    if index.key(orders.key.id) != orders.key:
        await store.commit([put(orders.key)])
    deployments.settle_interrupted()
    await queue.release(steady.wall_s(), pause_s_max=PAUSE_S_MAX)
    verifier = verifier_of(orders, index, Credentials(orders.secret), lambda request: request.header(CALLER))
    downloads = Downloads(orders.secret, lambda sha256: data.code / sha256 / "archive.zip", clock)
    choice = choice_of(orders)
    watching = {
        "logs": Logs(journal, clock, standing=partial(standing, index)).operations,
        "monitoring": Monitoring(meter, clock).operations,
    }
    parts = native_parts(orders, index, deployments, downloads=downloads, choice=choice, helper=helper, keeping=keeping)
    parts += [
        NativeLogs(index=index, journal=journal, group_of=tailing.grouping(CONTRACTS), clock=clock, live=live),
        KeyRoutes(
            Keys(index=index, commits=Commits(store, index, followers.have), clock=clock, draw=fresh_pair, own=orders.key.id)
        ),
        EventRoutes(events=queue.events, index=index, clock=steady, woken=dispatcher.woken),
        Records(index=index, recorder=recorder),
        node_routes(orders, index, followers, queue.size),
    ]
    aws = aws_desk(
        deployments, verifier, watching, downloads=downloads, helper=helper, spool=data.tmp, keeping=keeping, upstreams=beyond
    )
    door = DeskDoor(
        table=TABLE,
        dialects={
            "aws": aws,
            "native": NativeDialect(gatekeeper=Gate(verifier, "ondol", clock), parts=parts, spool=spool_in(data.tmp)),
            "prometheus": PrometheusDialect(totals=totals, gatekeeper=Gate(verifier, "ondol", clock)),
        },
    )
    server = HttpServer(door)
    await server.start(orders.listener("desk"))
    followers.release()
    tasks.start(dispatcher.serve(), "deferred calls")
    tasks.start(desk_work.sweep(*chores(deployments, queue, journal, clock), meter.sweep, recorder.sweep), "sweeping")

    async def stop(seconds: float) -> None:
        live.close()
        await server.drain(seconds)
        await dispatcher.close()
        await deployments.close()
        links.close()
        followers.close()
        for room in (*shared, beyond, helper, journal, measures, meter, recorder, queue, store):
            await room.close()

    await until_stopped(line, tasks, lambda _name, new: new.close(), stop)


def across_fronts(settings: Settings, index: Index) -> list[LevelsEverywhere | Lending]:
    """What holds for several fronts together."""
    if settings.fronts == 1:
        return []
    lending = Lending(settings.fronts, Admission(concurrency_max=settings.concurrency_max))
    index.listeners.append(lending.follow)
    return [LevelsEverywhere(), lending]


def followers_of(
    settings: Settings, handlers: Mapping[str, Handler], measures: Measures, shared: Sequence[LevelsEverywhere | Lending]
) -> Followers:
    """The lines to the fronts, and who hears what comes over them."""
    more = {name: handler for room in shared for name, handler in room.handlers.items()}
    followers = Followers({**handlers, **more}, fronts=settings.fronts)
    followers.listeners += [measures.lost, *(room.lost for room in shared)]
    return followers


def dispatching(queue: SqliteQueue, index: Index, followers: Followers, steady: Clock, observe: Observe) -> Dispatcher:
    """Deferred calls: fronts bring them, and run them when the dispatcher says. Timed by a clock that does not jump."""
    dispatcher = Dispatcher(
        queue,
        asking(followers.run),
        steady,
        rules=partial(rules, index),
        sequel=Outcomes(index, record, lambda: str(uuid.uuid4())).sequel,
        observe=observe,
        able=followers.followed,
        shown_s=SystemClock.wall_s,
    )
    index.listeners.append(dispatcher.follow)
    followers.answer("defer", taking(queue, dispatcher.woken, steady, naming(index), observe))
    return dispatcher


def aws_desk(
    deployments: Deployments,
    verifier: Verifier,
    watching: Mapping[str, Operations],
    *,
    downloads: Downloads,
    helper: Helper,
    spool: Path,
    keeping: Keeping,
    upstreams: Upstreams,
) -> AwsDesk:
    """AWS's control planes: functions, roles, sessions, what `watching` holds, and the way to services of others."""
    index, clock = deployments.index, verifier.clock
    grants = Grants(index, clock)
    services = {
        **watching,
        "lambda": control_plane(
            deployments,
            spool=spool,
            objects=Objects(upstreams, grants, index, verifier.credentials, clock),
            code_url=lambda code, context: downloads.link(code, context.endpoint),
            grants=grants,
            keeping=keeping,
        ),
        "sts": Sts(index, grants, verifier.credentials, clock).operations,
        "iam": Iam(deployments.items, clock).operations(),
    }
    access = Access(index, grants)
    decode = decoding.decoding(helper.call)
    return AwsDesk(verifier=verifier, services=services, access=access, decode_large=decode, upstreams=upstreams)


def upstreams_of(settings: Settings, run: Path) -> Upstreams:
    """Who serves what Ondol does not."""
    servers = {
        service: Server(name=f"the upstream {url}", client=client_of(url, UPSTREAM_LIMITS), host=urlsplit(url).netloc)
        for service, url in split(settings.upstream).items()
    }
    if settings.with_emulator:
        client = HttpClient(lambda: connect(run / f"{emulator.NAME}.sock"), UPSTREAM_LIMITS)
        servers[ANY] = Server(name="the emulator", client=client, emulator=True)
    return Upstreams(servers, uuid.uuid4().hex)


def chores(
    deployments: Deployments, queue: SqliteQueue, journal: SegmentJournal, clock: Clock
) -> tuple[Callable[[], Awaitable[object]], ...]:
    """What removes what is old: code that nothing names, calls that were given up, lines beyond their retention."""
    # Retention goes with appending, and nobody may be logging.
    return deployments.collect_code, lambda: queue.events.forget_outdated(clock.wall_s()), lambda: journal.append(())


def sinks_of(settings: Settings, totals: Totals) -> list[OtelSink]:
    """What records are sent on to."""
    lose = functools.partial(totals.lose, "spans")
    return [OtelSink(settings.otel_endpoint, lose=lose)] if settings.otel_endpoint else []


def native_parts(
    orders: Orders,
    index: Index,
    deployments: Deployments,
    *,
    downloads: Downloads,
    choice: Choice,
    helper: Helper,
    keeping: Keeping,
) -> list[Part]:
    """What the native API does to functions."""
    functions = Functions(
        index=index,
        deployments=deployments,
        decode=document.decoding(helper.call),
        spool=spool_in(joining.places(orders.data).tmp),
        interpreter=partial(described, describing(choice)),
        downloads=downloads,
    )
    pins = Pins(index=index, deployments=deployments, keeping=keeping)
    return [functions, Versions(index=index, deployments=deployments), pins]


def spool_in(folder: Path) -> Callable[[], Path]:
    """Fresh paths for files that whoever asks removes."""
    return lambda: folder / uuid.uuid4().hex


def node_routes(orders: Orders, index: Index, followers: Followers, queue: Callable[[], Awaitable[QueueSize]]) -> NodeRoutes:
    """What the node says about itself."""
    supervisor = os.getppid()
    return NodeRoutes(
        stats=looking.stats(index, followers, queue, supervisor),
        doctor=looking.doctor(
            orders, joining.places(orders.data).tmp, supervisor, lambda each: lacking(Interpreter(**each)) or ""
        ),
        settings=lambda: looking.settings(orders.settings),
        declared=DECLARED,
        version=__version__,
    )
