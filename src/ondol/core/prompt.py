"""The usual call, begun and ended without a coroutine: `core/invoke.py`'s steps, in the same order.

Most calls wait for nothing but a place and the function itself. Of these permission and revision are remembered by whoever
brings them (`target_of`), and the answer is handed on in the turn of the loop that brought it. What needs more is a coroutine
from there on: a worker that is new, one that was lost before it took the call up. Who is not admitted goes the long way, which
may borrow room of other fronts, and says what there is to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct

from ondol.core.invoke import Invoker
from ondol.core.permit import owns
from ondol.core.resolve import resolve
from ondol.model.errors import NotFound, OndolError, Throttled
from ondol.model.functions import Function, Target
from ondol.model.invocations import Invocation, Outcome
from ondol.model.principals import Principal
from ondol.pool.driver import Lease
from ondol.pool.run import Ran
from ondol.runtime import Call

#: Told what a call came to, or what the platform failed with.
Over = Callable[[Outcome | Exception], None]


class Prompt:
    """See the module."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker
        self._tasks: set[asyncio.Task[None]] = set()

    def target_of(self, function: Function, principal: Principal) -> Target | None:
        """What an unqualified call comes to until the catalog changes; None where each call is to be looked at."""
        if function.per_tenant or not owns(principal, function.account):
            return None
        try:
            return resolve(self._invoker.index, function, None, 0.0)
        except NotFound:
            return None

    def begin(self, invocation: Invocation, target: Target, over: Over) -> bool:
        """Run it. False, and nothing has happened, where there is no room for it just now."""
        try:
            self._invoker.admission.enter(target.function, paced=True)
        except Throttled:
            return False
        begun = _Begun(self, invocation, target, over)
        self._invoker.pool.ask(target, begun.placed, wait_s_max=self._invoker.wait_s_max)
        return True

    def run(self, begun: _Begun, lease: Lease) -> None:
        """There is a place."""
        invocation, target = begun.invocation, begun.target
        try:
            call = self._invoker.call_of(invocation, target)
        except Exception as error:
            begun.ran(error)
            begun.freed()
            return
        timeout_s = target.revision.configuration.timeout_s
        if not lease.begin(call, invocation=invocation, target=target, timeout_s=timeout_s, told=begun):
            self._spawn(self._run(begun, lease, call))

    async def _run(self, begun: _Begun, lease: Lease, call: Call) -> None:
        """A worker that is new, or does not do without a coroutine."""
        invocation, target = begun.invocation, begun.target
        timeout_s = target.revision.configuration.timeout_s
        ran: Ran | Exception
        try:
            ran = await lease.call(call, invocation=invocation, target=target, timeout_s=timeout_s)
        except Exception as error:
            ran = error
        try:
            begun.ran(ran)
        finally:
            begun.freed()

    def try_again(self, begun: _Begun) -> None:
        """Once more, elsewhere: the worker died before it took the call up."""
        self._spawn(self._once_more(begun))

    async def _once_more(self, begun: _Begun) -> None:
        ran: Ran | Exception
        try:
            ran = await self._invoker.attempt(begun.invocation, begun.target)
        except Exception as error:
            ran = error
        self.leave(begun.target)
        begun.settle(ran)

    def outcome(self, begun: _Begun, ran: Ran) -> Outcome | Exception:
        contract = self._invoker.contracts[begun.target.revision.configuration.contract]
        try:
            return contract.outcome(begun.invocation, ran.report, ran.answer)
        except Exception as error:
            return error

    def leave(self, target: Target) -> None:
        self._invoker.admission.leave(target.function)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Begun(Struct, eq=False):
    """One call under way: `ondol.pool.run.Told`."""

    prompt: Prompt
    invocation: Invocation
    target: Target
    over: Over
    lease: Lease | None = None
    #: It is on its way a second time.
    again: bool = False

    def placed(self, place: Lease | OndolError) -> None:
        if isinstance(place, Lease):
            self.lease = place
            self.prompt.run(self, place)
        else:
            self.prompt.leave(self.target)
            self.over(place)

    def ran(self, ran: Ran | Exception) -> None:
        if isinstance(ran, Ran) and not ran.started:
            self.again = True
            self.prompt.try_again(self)
        else:
            self.settle(ran)

    def settle(self, ran: Ran | Exception) -> None:
        self.over(self.prompt.outcome(self, ran) if isinstance(ran, Ran) else ran)

    def freed(self) -> None:
        assert self.lease is not None
        self.lease.release()
        if not self.again:
            self.prompt.leave(self.target)
