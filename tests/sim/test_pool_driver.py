"""The whole pool in virtual time: random functions, crashes, timeouts, impatient and cancelled callers, a keeper that fails.

Whatever happens, every call ends, no environment runs two revisions or more calls than it may, and nothing is left at the end.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from ondol.model.errors import OndolError, StartFailed
from ondol.pool.driver import Pool
from ondol.pool.policy import PoolLimits
from ondol.runtime import Answer, Call, Ending
from ondol.testing.pool import (
    LoopClock,
    Notebook,
    PlainContract,
    Script,
    ScriptedRuntime,
    ScriptedSandboxes,
    a_target,
    an_invocation,
    run_virtually,
)


class Town:
    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.sandboxes = ScriptedSandboxes()
        self.contracts = {"plain": PlainContract(), "wide": PlainContract(name="wide", concurrency=3)}
        self.targets = [
            a_target(
                f"f{n}",
                contract=rng.choice(["plain", "wide"]),
                memory_mib=rng.choice([128, 256, 512]),
                per_tenant=rng.random() < 0.3,
                concurrency=rng.choice([0, 0, 3]),  # in so many processes, each of which has a call at a time
            )
            for n in range(rng.randint(1, 6))
        ]
        self.runtimes = {}
        for target in self.targets:
            script = Script(handler=self.handle, load_s=rng.choice([0.0, 0.1]), start_s=rng.choice([0.0, 0.02, 3.0]))
            self.runtimes[target.revision.id] = ScriptedRuntime(self.sandboxes, script)
        self.pool = Pool(
            limits=PoolLimits(
                memory_mib_max=rng.choice([512, 2048]),
                starts_max=rng.choice([1, 8]),
                line_total_max=rng.choice([5, 500]),
                idle_s_max=rng.choice([1.0, 300.0]),
                start_s_max=10,
                stop_s_max=10,
            ),
            sandboxes=self.sandboxes,
            runtimes=lambda revision: self.runtimes[revision.id],
            contracts=self.contracts,
            telemetry=Notebook(),
            clock=LoopClock(),
            mint=lambda revision, _: ("", "", ""),
            endpoint="",
            tree_of=lambda code: "/tree",
        )
        self.running: Counter[object] = Counter()
        self.endings: Counter[str] = Counter()
        #: Whose call each environment ran first.
        self.tenants: dict[object, str | None] = {}

    async def handle(self, worker, call, sink) -> Answer:
        contract, processes = call.meta.decode().split()
        width = self.contracts[contract].concurrency if int(processes) < 2 else 1
        self.running[worker] += 1
        assert self.running[worker] <= width, "more calls than it may"
        try:
            fate = self.rng.random()
            await asyncio.sleep(self.rng.choice([0.0, 0.01, 0.3]))
            if fate < 0.05:
                worker.die(self.rng.choice([0, 1, -9, -11]))
                await asyncio.sleep(1e6)
            if fate < 0.10:
                await asyncio.sleep(1e6)
            if fate < 0.15:
                return Answer(ending=Ending.INIT_ERROR)
            if fate < 0.18:
                asyncio.get_running_loop().call_later(self.rng.random(), worker.die, 0)
            if fate < 0.30:
                return Answer(ending=Ending.OK, body=self.stream())
            return Answer(ending=Ending.OK, body=call.payload)
        finally:
            self.running[worker] -= 1

    async def stream(self):
        for _ in range(self.rng.randint(0, 4)):
            yield b"chunk"
            await asyncio.sleep(self.rng.random())

    async def call(self, target) -> None:
        tenant = self.rng.choice(["blue", "green", "red"]) if target.function.per_tenant else None
        lease = await self.pool.acquire(target, wait_s_max=self.rng.choice([0.1, 5.0, 60.0]), tenant=tenant)
        try:
            assert lease.environment.revision is target.revision, "another revision"
            assert self.tenants.setdefault(lease.environment, tenant) == tenant, "another tenant's"
            configuration = target.revision.configuration
            call = Call(meta=f"{configuration.contract} {configuration.concurrency}".encode(), payload=b"x")
            asked = an_invocation(target=target, tenant=tenant)
            ran = await lease.call(call, invocation=asked, target=target, timeout_s=2)
            if ran.streaming is not None and self.rng.random() < 0.5:
                async for _ in ran.answer.body:
                    if self.rng.random() < 0.2:
                        await ran.answer.body.aclose()
                        break
        finally:
            lease.release()

    async def visit(self, target) -> None:
        task = asyncio.get_running_loop().create_task(self.call(target))
        if self.rng.random() < 0.03:
            asyncio.get_running_loop().call_later(self.rng.random(), task.cancel)
        await asyncio.wait([task])
        if task.cancelled():
            self.endings["cancelled"] += 1
        elif task.exception() is None:
            self.endings["answered"] += 1
        elif isinstance(task.exception(), OndolError):
            self.endings[type(task.exception()).__name__] += 1
        else:
            raise task.exception()

    async def live(self, visits: int) -> None:
        rng = self.rng
        under_way = []
        for _ in range(visits):
            for _ in range(rng.choice([1, 1, 1, 3, 15])):
                under_way.append(asyncio.get_running_loop().create_task(self.visit(rng.choice(self.targets))))
            if rng.random() < 0.05:
                self.pool.retire(rng.choice(self.targets).revision.id)
            if rng.random() < 0.1:
                self.pool.replace(
                    rng.choice(self.targets).revision.id, rng.choice(self.targets).revision, rng.choice([None, 1])
                )
            if rng.random() < 0.05:
                method = rng.choice(["prepare", "attach", "scour", "usage"])
                self.sandboxes.errors[method] = StartFailed(f"{method} failed")
                asyncio.get_running_loop().call_later(rng.random() * 2, self.sandboxes.errors.pop, method, None)
            await asyncio.sleep(rng.choice([0.0, 0.01, 0.5]))
        await asyncio.gather(*under_way)
        if rng.random() < 0.5:
            await asyncio.sleep(1000)
            assert not self.sandboxes.shells, "an idle environment stays for ever"
        assert await self.pool.drain(60), "something was never given back"
        await self.pool.close()
        assert not self.sandboxes.shells, "a shell was left"
        self.workers_are_closed()
        await asyncio.sleep(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left"

    def workers_are_closed(self) -> None:
        for runtime in self.runtimes.values():
            assert all(worker.closed for worker in runtime.workers), "a worker's descriptors were left"


def seeds() -> range:
    """A third of what the machine's simulator takes: these are slower."""
    first, _, last = os.environ.get("ONDOL_SIM_SEEDS", "120").rpartition(":")
    return range(int(first or 0), int(first or 0) + max((int(last) - int(first or 0)) // 3, 1))


@pytest.mark.parametrize("chunk", range(4))
def test_every_call_ends_and_nothing_is_left(chunk):
    for seed in seeds()[chunk::4]:
        town = Town(seed)
        try:
            run_virtually(town.live(60))
        except BaseException as error:
            error.add_note(f"replay: ONDOL_SIM_SEEDS={seed}:{seed + 1}")
            raise
        assert town.endings["answered"]
