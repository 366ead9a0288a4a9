"""The front's own share of a warm call: bytes in to bytes out, in this process, with a worker that answers at once.

Everything of the front is real but its three ends: the client's transport and the guest's are objects that take what is written,
and nothing is sent on to the desk. No other process has a part in it, so that this is the figure that noise moves least, and the
one to look at while the hot path is worked on. Each round is also held against a yardstick, plain Python work that is timed around
it: that ratio is good to compare when others use the machine. `python -m bench.path [--profile]`.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import random
import statistics
import time
from typing import Any

import msgspec
import uvloop

from bench import load
from ondol.app.shared import TABLE
from ondol.clock import SystemClock
from ondol.contracts.aws import AwsContract
from ondol.core.admit import Admission
from ondol.core.catalog import Index, put
from ondol.core.invoke import Invoker
from ondol.core.prompt import Prompt
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsFront
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.prompt import PromptInvoke
from ondol.http.connection import Connection
from ondol.http.guard import allowed
from ondol.http.passing import Passing
from ondol.http.server import Server
from ondol.model.functions import Handle
from ondol.model.principals import AccessKey
from ondol.node.doors import FrontDoor
from ondol.node.measuring import FrontTelemetry, Measuring
from ondol.node.serving import settle_garbage
from ondol.node.telemetry import BatchedTelemetry
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.runtimes.link import Link
from ondol.store import Change
from ondol.testing.pool import ScriptedSandboxes, a_target
from ondol_guest import frames

KEY, SECRET, REGION = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"
URL = "http://127.0.0.1:7979/2015-03-31/functions/hello/invocations"
REQUESTS = 4_000


class Taken(asyncio.Transport):
    """A client's end: what is written is the answer to one request."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.answered: asyncio.Future[bytes] | None = None

    def write(self, data: Any) -> None:
        assert self.answered is not None
        self.answered.set_result(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Echo(asyncio.Transport):
    """A guest's end: each call is answered in the loop's next turn."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._loop = asyncio.get_running_loop()

    def write(self, data: Any) -> None:
        kind, _, _, invocation = frames.unpack_header(data)
        if kind == frames.CALL:
            answer = frames.pack_meta(frames.RESULT, invocation, b"", b'{"hello": "you"}')
            self._loop.call_soon(self._link.data_received, answer)

    def abort(self) -> None: ...


class Child:
    """What a link wants of a forked child; it ends when it is told."""

    def __init__(self) -> None:
        self.pid, self.wire = 0, -1
        self.log, self._writer = os.pipe()
        self._ended = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self._ended

    def end(self) -> None:
        os.close(self._writer)
        self._ended.set_result(0)


class EchoRuntime:
    """Starts links to nobody."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def find(self, runtime: str) -> str | None:
        return None

    async def start(self, shell: Any, revision: Any, launch: Any, sink: Any) -> Link:
        self.children.append(Child())
        link = Link(self.children[-1], sink)
        link.connection_made(Echo(link))
        link.data_received(frames.pack(frames.READY, 0, json.dumps({"init_ms": 1.0}).encode()))
        return link


def yardstick_us() -> float:
    """CPU µs that a thousand rounds of plain work take now: calls, attributes, dictionaries."""

    class Thing:
        __slots__ = ("value",)

        def take(self, value: int) -> int:
            self.value = value
            return value + 1

    thing, table = Thing(), {"a": 1}
    began_s = time.process_time()
    for number in range(20_000):
        table["a"] = thing.take(number) + table["a"]
    return (time.process_time() - began_s) / 20 * 1e6


class Nothing:
    """A `Telemetry` that keeps nothing: what a call costs without logs, metrics and records."""

    def log(self, place: Any, events: Any) -> None: ...

    def waited(self, invocation: str, seconds: float) -> None: ...

    def settled(self, target: Any, report: Any) -> None: ...

    def rested(self, target: Any, seconds: float) -> None: ...

    def throttled(self, account: str, region: str, function: str) -> None: ...


def telemetry_of(kept: str, admission: Admission, index: Index, clock: SystemClock) -> Any:
    """All that a front keeps of a call, or nothing; what it would send to the desk is packed and thrown away."""
    if kept == "nothing":
        return Nothing()
    pack = msgspec.msgpack.Encoder().encode
    send = lambda batch: bool(pack((0, "batch", batch)))  # noqa: E731
    return FrontTelemetry(BatchedTelemetry(send), Measuring(send, admission.levels, index, clock))


def front(kept: str) -> tuple[Server, Pool, EchoRuntime]:
    """The front of `app.py`, with the runtime above."""
    index, clock = Index(), SystemClock()
    target = a_target("hello", contract="aws", runtime="python3.11")
    function = target.function
    handle = Handle(dialect="aws", account=function.account, region=REGION, name="hello", function=function.id)
    key = AccessKey(id=KEY, secret=SECRET, account=function.account, created_s=0.0)
    for number, noun in enumerate((function, target.revision, handle, key), 1):
        made = put(noun)
        index.apply(Change(number, made.key, made.value))
    contracts = {"aws": AwsContract()}
    admission = Admission(concurrency_max=100_000)  # one caller asks for more than ten times 1,000 a second
    telemetry = telemetry_of(kept, admission, index, clock)
    runtime = EchoRuntime()
    pool = Pool(
        limits=PoolLimits(memory_mib_max=4096, idle_s_max=600),
        sandboxes=ScriptedSandboxes(),
        runtimes=lambda _: runtime,
        contracts=contracts,
        telemetry=telemetry,
        clock=clock,
        mint=lambda *_: ("id", "secret", "token"),
        endpoint="http://here",
        tree_of=lambda code: code.sha256,
    )
    invoker = Invoker(
        index=index,
        admission=admission,
        pool=pool,
        contracts=contracts,
        telemetry=telemetry,
        clock=clock,
        draw=random.random,
        enqueue=None,
        wait_s_max=60.0,
    )
    verifier = Verifier(
        keys=index.key, credentials=Credentials(b"x" * 32), clock=clock, account=function.account, region=REGION
    )
    ready = asyncio.Event()
    ready.set()
    door = FrontDoor(
        table=TABLE,
        dialects={
            "aws": AwsFront(verifier=verifier, invoke=Invoke(index=index, invoker=invoker, grants=Grants(index, SystemClock())))
        },
        passing=Passing(None),
        hosts=allowed("127.0.0.1"),
        ready=ready,
    )
    prompt = PromptInvoke(verifier=verifier, index=index, prompt=Prompt(invoker), leads_to=door.leads_to)
    return Server(door, prompt=None if os.environ.get("NOPROMPT") else prompt), pool, runtime


async def measure(rounds: int, *, kept: str = "all", profile: bool = False) -> tuple[list[float], list[float]]:
    """CPU µs per call, and the same in yardsticks, round by round."""
    server, pool, runtime = front(kept)
    server._tick()
    loop = asyncio.get_running_loop()
    connection, transport = Connection(server), Taken()
    connection.connection_made(transport)
    bodies = [json.dumps({"name": "you", "number": number}).encode() for number in range(REQUESTS)]
    requests = load.signed(URL, bodies, key=KEY, secret=SECRET, region=REGION, service="lambda")

    async def all_of_them() -> None:
        for request in requests:
            transport.answered = loop.create_future()
            connection.data_received(request)
            answer = await transport.answered
            assert answer.startswith(b"HTTP/1.1 200"), answer

    await all_of_them()
    settle_garbage()
    used, held = [], []
    for _ in range(rounds):
        before_us = yardstick_us()
        began_s = time.process_time()
        await all_of_them()
        used.append((time.process_time() - began_s) / REQUESTS * 1e6)
        held.append(used[-1] * 2 / (before_us + yardstick_us()))
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        await all_of_them()
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
    connection.connection_lost(None)
    for child in runtime.children:
        child.end()
    await pool.close()
    server._sweep.cancel()
    return used, held


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.path", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="show where the time goes, too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--kept", choices=["all", "nothing"], default="all", help="of each call: logs, metrics and a record, or nothing"
    )
    arguments = parser.parse_args()
    used, held = uvloop.run(measure(arguments.rounds, kept=arguments.kept, profile=arguments.profile))
    print(
        f"front's CPU per warm call: {min(used):.1f} µs at best, {statistics.median(used):.1f} in the median of {len(used)} rounds; "
        f"{statistics.median(held):.3f} yardsticks"
    )


if __name__ == "__main__":
    main()
