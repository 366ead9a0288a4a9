"""The wiring of a node, on one page: which implementation stands behind which port, in which process.

Two parts: what the front is made of, and what the desk is made of; the supervisor (`start.py`) starts one of each. Nothing is
registered by being imported, and no other module names an implementation.
"""

from __future__ import annotations

import functools
import random
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import uvloop

from ondol.blobstores import folder
from ondol.blobstores.folder import FolderBlobs
from ondol.blobstores.worker import Helper
from ondol.clock import Clock, SteadyClock, SystemClock
from ondol.config import Settings
from ondol.contracts.aws import AwsContract
from ondol.contracts.aws_json import AwsJsonContract
from ondol.contracts.web import COMMAND_RUNTIME, WebContract
from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.core.deferrals import rules
from ondol.core.deferred import Dispatcher, Observe
from ondol.core.deploy import Deployments
from ondol.core.invoke import Invoker
from ondol.core.outcomes import Outcomes
from ondol.core.retry import PAUSE_S_MAX
from ondol.core.totals import Totals
from ondol.dialects.aws import decoding
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsDesk, AwsFront
from ondol.dialects.aws.embedded import embedding
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.logs import Logs
from ondol.dialects.aws.monitoring import Monitoring
from ondol.dialects.aws.records import record
from ondol.dialects.aws.sts import Sts
from ondol.dialects.native import document
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.native.downloads import Downloads
from ondol.dialects.native.events import EventRoutes
from ondol.dialects.plain.dialect import PlainDialect
from ondol.dialects.prometheus.dialect import PrometheusDialect
from ondol.http.guard import allowed
from ondol.http.passing import Passing
from ondol.http.server import Server
from ondol.http.table import Table
from ondol.http.unix import connect
from ondol.journals.segments import SegmentJournal
from ondol.meters.sqlite import SqliteMeter
from ondol.node import children, desk_work, front_work
from ondol.node.deferring import Deferring, Runs, asking, naming, taking
from ondol.node.doors import DeskDoor, FrontDoor
from ondol.node.following import Followers, Following
from ondol.node.journaling import Journaling
from ondol.node.link import Handler
from ondol.node.measuring import FrontTelemetry, Measures, Measuring, both
from ondol.node.serving import Orders, Tasks, begin, until_stopped
from ondol.node.telemetry import BatchedTelemetry
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.queues.sqlite import SqliteQueue
from ondol.recorders.sqlite import SqliteRecorder
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.sandboxes.kept import KeptSandboxes
from ondol.sinks.otel import OtelSink
from ondol.stores.sqlite import SqliteStore

DIALECTS = (AwsFront, PlainDialect, NativeDialect, PrometheusDialect)
TABLE = Table([route for dialect in DIALECTS for route in dialect.routes])


async def front(orders: Orders, line: socket.socket) -> None:
    """The data plane."""
    settings, clock, tasks, index = orders.settings, SystemClock(), Tasks(), Index()
    data = children.places(settings.data)
    choice = Choice(Interpreters(Interpreter(**each) for each in orders.interpreters), settings.runtime_substitute)
    sandboxes = KeptSandboxes(await children.first_line(line, "keeper"), stock_shells=settings.stock_shells)
    contracts = {c.name: c for c in (AwsContract(AwsJsonContract), WebContract(), WebContract(COMMAND_RUNTIME))}
    python = ForkedPython(sandboxes, choice)
    credentials = Credentials(orders.secret)
    admission = Admission(concurrency_max=settings.concurrency_max)
    measuring = Measuring(lambda measured: following.cast("measured", measured), admission.levels, index, clock)
    logs = BatchedTelemetry(lambda batches: following.cast("log", batches))
    telemetry = FrontTelemetry(logs, measuring)
    pool = Pool(
        limits=PoolLimits(memory_mib_max=settings.memory_mib_max, idle_s_max=settings.idle_s_max),
        sandboxes=sandboxes,
        runtimes=lambda _revision: python,
        contracts=contracts,
        telemetry=telemetry,
        clock=clock,
        mint=front_work.minting(credentials, clock),
        endpoint=orders.endpoint,
        tree_of=lambda code: str(data.code / code.sha256 / "tree"),
        inherited_bytes=front_work.inherited(sandboxes, choice),
        interpreter=front_work.interpreting(choice),
        substitute=lambda revision: choice.substitute_for(revision.configuration.runtime),
    )
    own = f"python3.{sys.version_info.minor}"
    warmer = front_work.Warmer(sandboxes, choice, account=settings.account, runtime=own)
    index.listeners += [admission.follow, front_work.retiring(pool), warmer.listen]
    invoker = Invoker(
        index=index,
        admission=admission,
        pool=pool,
        contracts=contracts,
        telemetry=telemetry,
        clock=clock,
        draw=random.random,
        enqueue=Deferring(lambda name, value: following.call(name, value), clock),  # noqa: PLW0108  # made below
        wait_s_max=front_work.WAIT_S_MAX,
    )
    following = Following(children.dialling(data.run / "link.sock"), index, Runs(invoker.invoke).run)
    verifier = verifier_of(orders, index, credentials)
    door = FrontDoor(
        table=TABLE,
        dialects={
            "aws": AwsFront(verifier=verifier, invoke=Invoke(index=index, invoker=invoker)),
            "plain": PlainDialect(index=index, gatekeeper=Gate(verifier, "ondol", clock), invoke=invoker.invoke),
        },
        passing=Passing(lambda: connect(data.run / "desk.sock")),
        hosts=allowed(settings.host, settings.public_hosts),
        ready=warmer.ready,
    )
    server = Server(door)
    tasks.start(following.serve(), "following the catalog")
    tasks.start(warmer.serve(following.ready), "warming")
    tasks.start(measuring.serve(lambda: front_work.gauges(pool)), "measuring")
    await server.start(orders.listener("public"))

    async def stop(seconds: float) -> None:
        end_s = clock.now_s() + seconds
        await server.drain(seconds)
        await pool.drain(max(end_s - clock.now_s(), 0.05))  # deferred calls
        await pool.close()
        logs.flush()
        measuring.flush()
        await following.flushed(front_work.FLUSH_S_MAX)
        await sandboxes.close()

    await until_stopped(line, tasks, lambda _name, new: sandboxes.use(new), stop)


async def desk(orders: Orders, line: socket.socket) -> None:
    """The control plane."""
    settings, clock, tasks, index = orders.settings, SystemClock(), Tasks(), Index()
    data = children.places(settings.data)
    steady = SteadyClock(clock)
    store, queue, journal = SqliteStore(data.catalog), SqliteQueue(data.queue), SegmentJournal(data.journals)
    meter, recorder, totals = SqliteMeter(data.metrics, clock), SqliteRecorder(data.records, clock), Totals()
    measures = Measures(meter, recorder, totals, sinks_of(settings, totals), index=index, clock=clock)
    helper = Helper({**folder.JOBS, **decoding.JOBS, **document.JOBS})
    blobs = FolderBlobs(data.code, data.tmp, helper.call)
    data.empty_tmp()
    logged = both(Journaling(journal, clock).take, embedding(meter, totals, clock))
    handlers = {"log": logged, "measured": measures.handler}
    followers, dispatcher = dispatching(queue, index, handlers, steady, measures.observe)
    await desk_work.load(store, index, followers, tasks)
    deployments = Deployments(
        store=store, blobs=blobs, index=index, clock=clock, ids=lambda: uuid.uuid4().hex, fronts_have=followers.have
    )
    if index.key(orders.key.id) != orders.key:
        await store.commit([put(orders.key)])
    deployments.settle_interrupted()
    await queue.release(steady.wall_s(), pause_s_max=PAUSE_S_MAX)
    verifier = verifier_of(orders, index, Credentials(orders.secret))
    downloads = Downloads(orders.secret, lambda sha256: data.code / sha256 / "archive.zip", clock)
    choice = Choice(Interpreters(Interpreter(**each) for each in orders.interpreters), settings.runtime_substitute)
    services = {
        "lambda": control_plane(
            deployments, spool=data.tmp, code_url=lambda code, context: downloads.link(code, context.endpoint)
        ),
        "logs": Logs(journal, clock).operations,
        "monitoring": Monitoring(meter, clock).operations,
        "sts": Sts(index).operations,
    }
    door = DeskDoor(
        table=TABLE,
        dialects={
            "aws": AwsDesk(verifier=verifier, services=services, decode_large=decoding.decoding(helper.call)),
            "native": NativeDialect(
                index=index,
                deployments=deployments,
                gatekeeper=Gate(verifier, "ondol", clock),
                decode=document.decoding(helper.call),
                spool=lambda: data.tmp / uuid.uuid4().hex,
                interpreter=choice.describe,
                downloads=downloads,
                events=EventRoutes(events=queue.events, index=index, clock=steady, woken=dispatcher.woken),
            ),
            "prometheus": PrometheusDialect(totals=totals, gatekeeper=Gate(verifier, "ondol", clock)),
        },
    )
    server = Server(door)
    await server.start(orders.listener("desk"))
    links = await desk_work.serve_links(orders.listener("link"), followers)
    tasks.start(dispatcher.serve(), "deferred calls")
    tasks.start(desk_work.sweep(*chores(deployments, queue, journal, clock), meter.sweep, recorder.sweep), "sweeping")

    async def stop(seconds: float) -> None:
        await server.drain(seconds)
        await dispatcher.close()
        await deployments.close()
        links.close()
        followers.close()
        for room in (helper, journal, measures, meter, recorder, queue, store):
            await room.close()

    await until_stopped(line, tasks, lambda _name, new: new.close(), stop)


def dispatching(
    queue: SqliteQueue, index: Index, handlers: dict[str, Handler], steady: Clock, observe: Observe
) -> tuple[Followers, Dispatcher]:
    """Deferred calls: fronts bring them, and run them when the dispatcher says. Timed by a clock that does not jump."""
    defer = taking(queue, lambda: dispatcher.woken(), steady, naming(index), observe)  # noqa: PLW0108  # made below
    followers = Followers({**handlers, "defer": defer})
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
    return followers, dispatcher


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


def verifier_of(orders: Orders, index: Index, credentials: Credentials) -> Verifier:
    """Both processes know everyone alike."""
    settings = orders.settings
    return Verifier(
        keys=index.key,
        credentials=credentials,
        clock=SystemClock(),
        account=settings.account,
        region=settings.region,
        open=settings.open,
    )


def main(role: str, line_fd: int) -> None:
    """A child of the supervisor."""
    orders, line = begin(line_fd, role)
    uvloop.run({"front": front, "desk": desk}[role](orders, line))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
