"""The wiring of a node, on one page: which implementation stands behind which port, in which process.

Two parts: what the front is made of, and what the desk is made of; the supervisor (`start.py`) starts one of each. Nothing is
registered by being imported, and no other module names an implementation.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from ondol import __version__
from ondol.blobstores import folder
from ondol.blobstores.folder import FolderBlobs
from ondol.blobstores.worker import Helper
from ondol.clock import SystemClock
from ondol.contracts.aws import AwsContract
from ondol.contracts.web import COMMAND_RUNTIME, WebContract
from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.core.commits import Commits
from ondol.core.deferred import Dispatcher
from ondol.core.deploy import Deployments
from ondol.core.invoke import Invoker
from ondol.core.keys import Keys
from ondol.dialects.aws import decoding
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsDesk, AwsFront
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.logs import Logs
from ondol.dialects.aws.sts import Sts
from ondol.dialects.native import document
from ondol.dialects.native.calls import Calls
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.native.downloads import Downloads
from ondol.dialects.native.functions import Functions
from ondol.dialects.native.keys import KeyRoutes
from ondol.dialects.native.live import LiveLogs
from ondol.dialects.native.logs import Logs as NativeLogs
from ondol.dialects.native.node import NodeRoutes
from ondol.dialects.native.operations import Part
from ondol.dialects.native.table import TABLE as DECLARED
from ondol.dialects.native.versions import Versions
from ondol.dialects.plain.dialect import PlainDialect
from ondol.http.guard import allowed
from ondol.http.passing import Passing
from ondol.http.server import Server
from ondol.http.table import Table
from ondol.http.unix import connect
from ondol.journals.segments import SegmentJournal
from ondol.node import children, desk_work, front_work, looking, tailing
from ondol.node.deferring import asking, deferring, running, taking
from ondol.node.doors import DeskDoor, FrontDoor
from ondol.node.following import Followers, Following
from ondol.node.keys import fresh_pair
from ondol.node.serving import Orders, Tasks, begin, until_stopped
from ondol.node.telemetry import BatchedTelemetry
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.queue import QueueSize
from ondol.queues.sqlite import SqliteQueue
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.sandboxes.kept import KeptSandboxes
from ondol.stores.sqlite import SqliteStore

DIALECTS = (AwsFront, PlainDialect, NativeDialect)
TABLE = Table([route for dialect in DIALECTS for route in dialect.routes])
CONTRACTS = {contract.name: contract for contract in (AwsContract(), WebContract(), WebContract(COMMAND_RUNTIME))}


async def front(orders: Orders, line: socket.socket) -> None:
    """The data plane."""
    settings, clock, tasks, index = orders.settings, SystemClock(), Tasks(), Index()
    data = children.places(settings.data)
    choice = Choice(Interpreters(Interpreter(**each) for each in orders.interpreters), settings.runtime_substitute)
    sandboxes = KeptSandboxes(await children.first_line(line, "keeper"), stock_shells=settings.stock_shells)
    python = ForkedPython(sandboxes, choice)
    credentials = Credentials(orders.secret)
    telemetry = BatchedTelemetry(lambda batches: following.cast("log", batches))
    pool = Pool(
        limits=PoolLimits(memory_mib_max=settings.memory_mib_max, idle_s_max=settings.idle_s_max),
        sandboxes=sandboxes,
        runtimes=lambda _revision: python,
        contracts=CONTRACTS,
        telemetry=telemetry,
        clock=clock,
        mint=front_work.minting(credentials, clock),
        endpoint=orders.endpoint,
        tree_of=lambda code: str(data.code / code.sha256 / "tree"),
        inherited_bytes=front_work.inherited(sandboxes, choice),
        interpreter=front_work.interpreting(choice),
        substitute=lambda revision: choice.substitute_for(revision.configuration.runtime),
    )
    admission = Admission(concurrency_max=settings.concurrency_max)
    own = f"python3.{sys.version_info.minor}"
    warmer = front_work.Warmer(sandboxes, choice, account=settings.account, runtime=own)
    index.listeners += [admission.follow, front_work.retiring(pool), warmer.listen]
    invoker = Invoker(
        index=index,
        admission=admission,
        pool=pool,
        contracts=CONTRACTS,
        telemetry=telemetry,
        clock=clock,
        draw=random.random,
        enqueue=deferring(lambda name, value: following.call(name, value), clock),  # noqa: PLW0108  # made below
        wait_s_max=front_work.WAIT_S_MAX,
    )
    following = Following(
        children.dialling(data.run / "link.sock"), index, running(invoker.invoke), looking.telling(pool.stats)
    )
    verifier = verifier_of(orders, index, credentials)
    gate = Gate(verifier, "ondol", clock)
    door = FrontDoor(
        table=TABLE,
        dialects={
            "aws": AwsFront(verifier=verifier, invoke=Invoke(index=index, invoker=invoker)),
            "plain": PlainDialect(index=index, gatekeeper=gate, invoke=invoker.invoke),
            "native": NativeDialect(gatekeeper=gate, parts=[Calls(index=index, invoker=invoker)]),
        },
        passing=Passing(lambda: connect(data.run / "desk.sock")),
        hosts=allowed(settings.host, settings.public_hosts),
        ready=warmer.ready,
    )
    server = Server(door)
    tasks.start(following.serve(), "following the catalog")
    tasks.start(warmer.serve(following.ready), "warming")
    await server.start(orders.listener("public"))

    async def stop(seconds: float) -> None:
        following.cast(tailing.LEAVING, None)
        end_s = clock.now_s() + seconds
        await server.drain(seconds)
        await pool.drain(max(end_s - clock.now_s(), 0.05))  # deferred calls
        await pool.close()
        telemetry.flush()
        await following.flushed(front_work.FLUSH_S_MAX)
        await sandboxes.close()

    await until_stopped(line, tasks, lambda _name, new: sandboxes.use(new), stop)


async def desk(orders: Orders, line: socket.socket) -> None:
    """The control plane."""
    settings, clock, tasks, index = orders.settings, SystemClock(), Tasks(), Index()
    data = children.places(settings.data)
    store, queue, journal = SqliteStore(data.catalog), SqliteQueue(data.queue), SegmentJournal(data.journals)
    helper = Helper({**folder.JOBS, **decoding.JOBS, **document.JOBS})
    blobs = FolderBlobs(data.code, data.tmp, helper.call)
    data.empty_tmp()
    live = LiveLogs(journal, clock)
    handlers = {"log": desk_work.journaling(journal), tailing.LEAVING: tailing.leaving(live.close)}
    followers = Followers({**handlers, "defer": taking(queue, lambda: dispatcher.woken())})  # noqa: PLW0108
    dispatcher = Dispatcher(queue, asking(followers.run), clock)
    await desk_work.load(store, index, followers, tasks)
    deployments = Deployments(
        store=store, blobs=blobs, index=index, clock=clock, ids=lambda: uuid.uuid4().hex, fronts_have=followers.have
    )
    if index.key(orders.key.id) != orders.key:
        await store.commit([put(orders.key)])
    deployments.settle_interrupted()
    await desk_work.once_per_start(data.run / "boot", orders.boot, lambda: queue.release(clock.wall_s()))
    verifier = verifier_of(orders, index, Credentials(orders.secret))
    downloads = Downloads(orders.secret, lambda sha256: data.code / sha256 / "archive.zip", clock)
    choice = Choice(Interpreters(Interpreter(**each) for each in orders.interpreters), settings.runtime_substitute)
    services = {
        "lambda": control_plane(
            deployments, spool=data.tmp, code_url=lambda code, context: downloads.link(code, context.endpoint)
        ),
        "logs": Logs(journal).operations,
        "sts": Sts(index).operations,
    }
    parts = native_parts(orders, index, deployments, downloads=downloads, choice=choice, helper=helper)
    parts += [
        NativeLogs(index=index, journal=journal, group_of=tailing.grouping(CONTRACTS), clock=clock, live=live),
        KeyRoutes(
            Keys(index=index, commits=Commits(store, index, followers.have), clock=clock, draw=fresh_pair, own=orders.key.id)
        ),
        node_routes(orders, index, followers, queue.size),
    ]
    door = DeskDoor(
        table=TABLE,
        dialects={
            "aws": AwsDesk(verifier=verifier, services=services, decode_large=decoding.decoding(helper.call)),
            "native": NativeDialect(gatekeeper=Gate(verifier, "ondol", clock), parts=parts, spool=spool_in(data.tmp)),
        },
    )
    server = Server(door)
    await server.start(orders.listener("desk"))
    links = await desk_work.serve_links(orders.listener("link"), followers)
    tasks.start(dispatcher.serve(), "deferred calls")
    tasks.start(desk_work.sweep(deployments), "sweeping")

    async def stop(seconds: float) -> None:
        live.close()
        await server.drain(seconds)
        await dispatcher.close()
        await deployments.close()
        links.close()
        followers.close()
        for room in (helper, journal, queue, store):
            await room.close()

    await until_stopped(line, tasks, lambda _name, new: new.close(), stop)


def native_parts(
    orders: Orders, index: Index, deployments: Deployments, *, downloads: Downloads, choice: Choice, helper: Helper
) -> list[Part]:
    """What the native API does to functions."""
    functions = Functions(
        index=index,
        deployments=deployments,
        decode=document.decoding(helper.call),
        spool=spool_in(children.places(orders.data).tmp),
        interpreter=choice.describe,
        downloads=downloads,
    )
    return [functions, Versions(index=index, deployments=deployments)]


def spool_in(folder: Path) -> Callable[[], Path]:
    """Fresh paths for files that whoever asks removes."""
    return lambda: folder / uuid.uuid4().hex


def node_routes(orders: Orders, index: Index, followers: Followers, queue: Callable[[], Awaitable[QueueSize]]) -> NodeRoutes:
    """What the node says about itself."""
    supervisor = os.getppid()
    return NodeRoutes(
        stats=looking.stats(index, followers, queue, supervisor),
        doctor=looking.doctor(orders, children.places(orders.data).tmp, supervisor),
        settings=lambda: looking.settings(orders.settings),
        declared=DECLARED,
        version=__version__,
    )


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
