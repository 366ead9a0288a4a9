"""The front, on one page: the data plane's rooms and how they are joined."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ondol.app.makers import Makers
from ondol.app.shared import CONTRACTS, TABLE, choice_of, managed_of, nodejs_of, verifier_of
from ondol.clock import SystemClock
from ondol.config import Settings
from ondol.core.catalog import Index
from ondol.core.invoke import Invoker
from ondol.core.prompt import Prompt
from ondol.dialect import Dialect
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsFront
from ondol.dialects.aws.gate import Gate
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.plain_calls import PlainCalls
from ondol.dialects.aws.prompt import PromptInvoke
from ondol.dialects.aws.urls import Registry, Urls
from ondol.dialects.native.calls import Calls
from ondol.dialects.native.dialect import NativeDialect
from ondol.dialects.plain.dialect import PlainDialect
from ondol.http.bells import Bells
from ondol.http.guard import allowed
from ondol.http.passing import Passing
from ondol.http.server import HttpLimits, Server
from ondol.http.unix import connect
from ondol.node import front_work, joining, looking, tailing
from ondol.node.compiling import Compiling
from ondol.node.deferring import Deferring, Runs
from ondol.node.doors import FrontDoor, ShellDoor
from ondol.node.following import Following
from ondol.node.measuring import FrontTelemetry, Measuring
from ondol.node.networking import networking
from ondol.node.orders import Orders
from ondol.node.serving import Tasks, until_stopped
from ondol.node.sharing import Sharing
from ondol.node.telemetry import BatchedTelemetry
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.runtimes.ahead import imported_ahead
from ondol.runtimes.api import Callers
from ondol.runtimes.choice import Choice
from ondol.runtimes.nodejs import NodejsVersions, ahead
from ondol.telemetry import Telemetry

#: A runtime's connection is silent as long as its function works, or makes up its answer.
SHELLS = HttpLimits(idle_s=front_work.SILENT_S_MAX, body_idle_s=front_work.SILENT_S_MAX)


async def front(orders: Orders, line: socket.socket) -> None:
    """The data plane."""
    settings, clock, tasks, index = orders.settings, SystemClock(), Tasks(), Index()
    data = joining.places(settings.data)
    choice, nodejs = choice_of(orders), nodejs_of(orders)
    lines = await joining.first_lines(line, orders.makers, settled=settings.fronts > 1)
    makers = makers_of(orders, lines, choice, nodejs)
    credentials = Credentials(orders.secret)
    bells = Bells(lambda sock, name: shells.take(sock, name))  # noqa: PLW0108  # made below
    sharing = sharing_of(orders, lambda name, value: following.cast(name, value))  # noqa: PLW0108  # made below
    measuring = Measuring(lambda measured: following.cast("measured", measured), sharing.admission.levels, index, clock)
    logs = BatchedTelemetry(lambda batches: following.cast("log", batches))
    telemetry = FrontTelemetry(logs, measuring)
    pool = pool_of(orders, makers, choice, telemetry, credentials, bells, nodejs)
    warmer = warmer_of(orders, makers, choice, nodejs)
    pinning = front_work.pinning(pool, index, settings.fronts)
    compiling = compiling_of(orders, makers, choice)
    index.listeners += [sharing.follow, pinning, front_work.retiring(pool, index), warmer.listen, compiling.listen]
    invoker = Invoker(
        index=index,
        admission=sharing.admission,
        pool=pool,
        contracts=CONTRACTS,
        telemetry=telemetry,
        clock=clock,
        draw=random.random,
        enqueue=Deferring(lambda name, value: following.call(name, value), clock),  # noqa: PLW0108  # made below
        wait_s_max=front_work.WAIT_S_MAX,
        borrow=sharing.borrow,
        grants=Grants(index, clock),
    )
    runs = Runs(invoker.invoke)
    answers = {"run": runs.run, **looking.telling(pool.stats, pool.kept), **sharing.handlers}
    following = Following(joining.dialling(data.run / "link.sock"), index, answers, opened=sharing.opened, tries=runs.tries)
    passing = Passing(lambda: connect(data.run / "desk.sock"))
    verifier = verifier_of(orders, index, credentials)
    door = FrontDoor(
        table=TABLE,
        dialects=dialects_over(invoker, index, verifier),
        passing=passing,
        hosts=allowed(settings.host, settings.public_hosts),
        ready=warmer.ready,
    )
    prompt = PromptInvoke(verifier=verifier, index=index, prompt=Prompt(invoker), leads_to=door.leads_to)
    server = Server(door, prompt=prompt)
    known = verifier_of(orders, index, credentials, lambda request: request.peer)
    shells = server_of_shells(bells, dialects_over(invoker, index, known)["aws"], passing, makers.callers)
    tasks.start(following.serve(), "following the catalog")
    tasks.start(warmer.serve(following.ready), "warming")
    tasks.start(compiling.serve(warmer.ready), "compiling")
    tasks.start(sharing.serve(), "telling what runs here")
    tasks.start(measuring.serve(lambda: front_work.gauges(pool)), "measuring")
    await server.start(orders.listener("public"))

    async def stop(seconds: float) -> None:
        following.cast(tailing.LEAVING, None)
        end_s = clock.now_s() + seconds
        await server.drain(seconds)
        await pool.drain(max(end_s - clock.now_s(), 0.05))  # deferred calls
        await pool.close()
        bells.close()
        logs.flush()
        measuring.flush()
        await following.flushed(front_work.FLUSH_S_MAX)
        await makers.close()

    await until_stopped(line, tasks, makers.use, stop)


def makers_of(orders: Orders, lines: Mapping[str, socket.socket], choice: Choice, nodejs: NodejsVersions) -> Makers:
    """Who makes sandboxes, for this front's share of the machine."""
    settings = orders.settings
    return Makers(
        lines,
        orders.levels,
        choice,
        nodejs,
        managed_of(orders),
        stock_shells=-(-settings.stock_shells // settings.fronts),
        memory_mib_max=settings.memory_mib_max // settings.fronts,
    )


def warmer_of(orders: Orders, makers: Makers, choice: Choice, nodejs: NodejsVersions) -> front_work.Warmer:
    """What keeps ready what functions will ask for."""
    return front_work.Warmer(
        makers.usual,
        choice,
        orders.networks,
        account=orders.settings.account,
        runtime=f"python3.{sys.version_info.minor}",
        ahead=partial(ahead, nodejs),
        modules=imported_ahead,
    )


def pool_of(  # noqa: PLR0917
    orders: Orders,
    makers: Makers,
    choice: Choice,
    telemetry: Telemetry,
    credentials: Credentials,
    bells: Bells,
    nodejs: NodejsVersions,
) -> Pool:
    """Who runs where here."""
    settings, clock, code = orders.settings, SystemClock(), joining.places(orders.data).code
    return Pool(
        limits=limits_of(settings),
        sandboxes=makers.sandboxes,
        runtimes=makers.runtime,
        contracts=CONTRACTS,
        telemetry=telemetry,
        clock=clock,
        mint=front_work.minting(credentials, clock),
        endpoint=orders.endpoint,
        tree_of=lambda each: str(code / each.sha256 / "tree"),
        inherited_bytes=makers.inherited_bytes,
        interpreter=front_work.interpreting(choice, imported_ahead),
        ahead=lambda revision: ahead(nodejs, revision.configuration),
        substitute=lambda revision: choice.substitute_for(revision.configuration.runtime),
        answering=bells,
        network=networking(orders.networks),
    )


def compiling_of(orders: Orders, makers: Makers, choice: Choice) -> Compiling:
    """What compiles deployed code: the first front does, for all."""
    code = joining.places(orders.data).code
    return Compiling(
        sandboxes=makers.sandboxes,
        runtimes=makers.runtime,
        interpreter=choice.interpreter if orders.front == 0 else lambda _runtime: None,
        folder=lambda each: code / each.code.sha256,
    )


def sharing_of(orders: Orders, cast: Callable[[str, Any], bool]) -> Sharing:
    """What this front shares with the others."""
    settings = orders.settings
    return Sharing(orders.front, settings.fronts, concurrency_max=settings.concurrency_max, cast=cast)


def server_of_shells(bells: Bells, aws: Dialect, passing: Passing, callers: Callers) -> Server:
    """What functions, and runtimes, call their node by."""
    door = ShellDoor(
        table=TABLE,
        dialects={"aws": aws},
        passing=passing,
        hosts=allowed("localhost"),
        own=callers.serve,
        own_prompt=callers.prompt,
    )
    server = Server(door, SHELLS, door.prompt)
    server.on_left = lambda connection: bells.left(connection.peer, connection)
    return server


def limits_of(settings: Settings) -> PoolLimits:
    """The pool's share of the settings."""
    return PoolLimits(
        memory_mib_max=settings.memory_mib_max // settings.fronts,
        pools=settings.fronts,
        idle_s_max=settings.idle_s_max,
        freeze_s_min=settings.freeze_s_min,
        scaling_max=max(settings.scaling_max // settings.fronts, 1),
        trust_s_max=settings.trust_s_max,
        processors=max(len(os.sched_getaffinity(0)) // settings.fronts, 1),
    )


def urls_over(invoker: Invoker, index: Index, verifier: Verifier, grants: Grants) -> Urls:
    """Function URLs, which are known as the catalog comes in: make it before that."""
    registry = Registry()
    index.listeners.append(registry.follow)
    return Urls(registry=registry, index=index, verifier=verifier, grants=grants, invoke=invoker.invoke, clock=verifier.clock)


def dialects_over(invoker: Invoker, index: Index, verifier: Verifier) -> dict[str, Dialect]:
    """What clients call functions by."""
    grants = Grants(index, verifier.clock)
    gate = Gate(verifier, "ondol", SystemClock())
    return {
        "aws": AwsFront(
            verifier=verifier,
            invoke=Invoke(index=index, invoker=invoker, grants=grants),
            urls=urls_over(invoker, index, verifier, grants),
        ),
        "plain": PlainDialect(
            index=index,
            gatekeeper=gate,
            invoke=invoker.invoke,
            events=PlainCalls(index=index, grants=grants, invoke=invoker.invoke, clock=verifier.clock),
        ),
        "native": NativeDialect(gatekeeper=gate, parts=[Calls(index=index, invoker=invoker)]),
    }
