"""The invocation, on one page.

    permit    may this principal call this function?
    admit     is there room in the account's and the function's concurrency and rate? else Throttled, before anything is started
    resolve   which revision: the latest, a version, or an alias's weighted choice
    place     an environment of that revision from the pool: a warm one, or a cold start
    run       hand the event over; wait for the answer, the timeout, or the process's end
    settle    what the caller gets; log lines, metrics and the record were written on the way

The function's failure is a value in the Outcome. What raises is the platform's own: NotFound, Denied, Throttled, Unavailable.
Nobody cancels this coroutine because a client went away: what was started is finished and recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from ondol.clock import Clock
from ondol.contract import Contract
from ondol.core.admit import Admission
from ondol.core.catalog import Index
from ondol.core.permit import Grants, owns, permit
from ondol.core.resolve import resolve
from ondol.model.errors import InvalidSetting, NotFound, Throttled
from ondol.model.functions import Function, Target
from ondol.model.invocations import Invocation, Outcome
from ondol.pool.driver import Pool
from ondol.pool.run import Ran
from ondol.runtime import Call
from ondol.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoker:
    """The use cases of calling a function: `invoke`, `defer`, `check`."""

    index: Index
    admission: Admission
    pool: Pool
    contracts: Mapping[str, Contract]
    telemetry: Telemetry
    clock: Clock
    #: Uniform in [0, 1): chooses between an alias's versions.
    draw: Callable[[], float]
    #: Writes a call down for later; on disk when it returns.
    enqueue: Callable[[Invocation], Awaitable[None]]
    #: How long a call may wait for a place.
    wait_s_max: float
    #: Enters a function that was refused (True: paced), with room that other fronts do not use; raises Throttled when there is
    #: none. None: there are no others.
    borrow: Callable[[Function, bool], Awaitable[None]] | None = None
    #: What callers other than the account's owner may.
    grants: Grants | None = None

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run it and wait for its outcome."""
        function = self._permitted(invocation)
        try:
            self.admission.enter(function, paced=not invocation.deferred)
        except Throttled as refused:
            await self._admit_late(function, refused, paced=not invocation.deferred)
        streaming = None
        try:
            target = resolve(self.index, function, invocation.qualifier, self.draw())
            contract = self.contracts[target.revision.configuration.contract]
            ran = await self.attempt(invocation, target)
            if not ran.started and invocation.body is None:  # that environment died before it took the call up: one more
                ran = await self.attempt(invocation, target)
            streaming = ran.streaming
            outcome = contract.outcome(invocation, ran.report, ran.answer)
            if ran.answer is not None and outcome.body is not ran.answer.body and not isinstance(ran.answer.body, bytes):
                await _drop(ran.answer.body)
            elif streaming is not None:
                outcome = replace(outcome, end=_ending(streaming, contract, invocation))
            return replace(outcome, tail=ran.tail) if ran.tail else outcome
        finally:
            if streaming is None:
                self.admission.leave(function)
            else:
                streaming.add_done_callback(lambda _: self.admission.leave(function))

    async def defer(self, invocation: Invocation) -> None:
        """Accept it for later. Raises what `invoke` would before it starts anything."""
        await self.check(invocation)
        await self.enqueue(invocation)

    async def check(self, invocation: Invocation) -> None:
        """Raise NotFound or Denied as `invoke` would, and start nothing."""
        resolve(self.index, self._permitted(invocation), invocation.qualifier, self.draw())

    def _permitted(self, invocation: Invocation) -> Function:
        function = self.index.function(invocation.function)
        if function is None:
            raise NotFound("function", invocation.function)
        if not owns(invocation.principal, function.account):
            conditions = {"function": function.id, "qualifier": invocation.qualifier or ""}
            permit(
                invocation.principal,
                "function:invoke",
                function.account,
                function.name,
                conditions=conditions,
                grants=self.grants,
            )
        if function.per_tenant is (invocation.tenant is None):
            raise _tenant(function)
        return function

    async def _admit_late(self, function: Function, refused: Throttled, *, paced: bool) -> None:
        try:
            if self.borrow is None:
                raise refused
            await self.borrow(function, paced)
        except Throttled:
            self.telemetry.throttled(function.account, function.region, function.id)
            raise

    async def attempt(self, invocation: Invocation, target: Target) -> Ran:
        """In one environment of the pool's. Only once it was admitted."""
        timeout_s = target.revision.configuration.timeout_s
        lease = await self.pool.acquire(target, wait_s_max=self.wait_s_max, tenant=invocation.tenant)
        try:
            call = self.call_of(invocation, target)
            return await lease.call(call, invocation=invocation, target=target, timeout_s=timeout_s, tail=invocation.tail)
        finally:
            lease.release()

    def call_of(self, invocation: Invocation, target: Target) -> Call:
        """What a worker is told: its time begins now."""
        configuration = target.revision.configuration
        deadline_ms = int((self.clock.wall_s() + configuration.timeout_s) * 1000)
        meta = self.contracts[configuration.contract].meta(invocation, target, deadline_ms=deadline_ms)
        return Call(meta=meta, payload=invocation.payload, body=invocation.body)


def _tenant(function: Function) -> InvalidSetting:
    if function.per_tenant:
        return InvalidSetting("tenant", f"{function.name} keeps its tenants apart: its calls say which tenant's they are")
    return InvalidSetting("tenant", f"{function.name} does not keep tenants apart: its calls name none")


def _ending(streaming: asyncio.Future[Ran], contract: Contract, invocation: Invocation) -> asyncio.Future[Outcome]:
    """What the contract says of a streamed answer's end, once that has come."""
    end: asyncio.Future[Outcome] = streaming.get_loop().create_future()

    def tell(ended: asyncio.Future[Ran]) -> None:
        if ended.cancelled() or end.done():
            end.cancel()
            return
        ran = ended.result()
        end.set_result(replace(contract.outcome(invocation, ran.report, ran.answer), tail=ran.tail))

    streaming.add_done_callback(tell)
    return end


async def _drop(body: bytes | AsyncIterator[bytes]) -> None:
    """The contract answers with something else: a stream that nobody reads would hold its environment."""
    if not isinstance(body, bytes):
        await body.aclose()  # type: ignore[attr-defined]  # every stream of the pool has it
