"""Deferred calls on their way between front and desk: an accepted call over, a call to run back.

The desk writes it down and answers; only then does the client get its "accepted". Later the desk asks a front to run it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ondol.clock import Clock
from ondol.model.errors import NotFound
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.node.link import Handler, Link
from ondol.queue import Deferred, Queue


def deferred_of(invocation: Invocation, now_s: float) -> Deferred:
    """What is written down of an invocation. Its payload must be whole."""
    assert invocation.body is None
    return Deferred(
        id=invocation.id,
        account=invocation.principal.account,
        region=invocation.principal.region,
        function=invocation.function,
        qualifier=invocation.qualifier,
        payload=invocation.payload,
        context={**invocation.context, "trace": invocation.trace},
        accepted_s=now_s,
        visible_s=now_s,
    )


def invocation_of(item: Deferred) -> Invocation:
    """The call to run: made by the platform, for who was allowed to ask when it was accepted."""
    context = dict(item.context)
    return Invocation(
        id=item.id,
        function=item.function,
        qualifier=item.qualifier,
        principal=Principal(kind=Kind.NODE, account=item.account, region=item.region, name="queue"),
        payload=item.payload,
        trace=context.pop("trace", None),
        context=context,
    )


def taking(queue: Queue, woken: Callable[[], None]) -> Handler:
    """The desk's answer to "defer": on disk when it returns."""

    async def take(_link: Link, value: Any) -> None:
        await queue.enqueue([msgspec.convert(value, Deferred)])
        woken()

    return take


def deferring(call: Callable[[str, Any], Awaitable[Any]], clock: Clock) -> Callable[[Invocation], Awaitable[None]]:
    """The front's `defer`: returns once the desk has it on disk."""

    async def defer(invocation: Invocation) -> None:
        await call("defer", msgspec.to_builtins(deferred_of(invocation, clock.wall_s()), builtin_types=(bytes,)))

    return defer


def running(invoke: Callable[[Invocation], Awaitable[Outcome]]) -> Handler:
    """The front's answer to "run": whether the function succeeded."""

    async def run(_link: Link, value: Any) -> dict[str, Any]:
        try:
            outcome = await invoke(invocation_of(msgspec.convert(value, Deferred)))
        except NotFound as error:
            return {"missing": error.name}
        if not isinstance(outcome.body, bytes):  # nobody reads it: let the call come to its end
            await outcome.body.aclose()  # type: ignore[attr-defined]  # every stream of the pool has it
        return {"succeeded": outcome.status is Status.OK}

    return run


def asking(run: Callable[[Any], Awaitable[Any]]) -> Callable[[Deferred], Awaitable[bool]]:
    """What the desk's dispatcher runs an item with. Raises NotFound and what else a front raised."""

    async def ask(item: Deferred) -> bool:
        answer = await run(msgspec.to_builtins(item, builtin_types=(bytes,)))
        if "missing" in answer:
            raise NotFound("function", answer["missing"])
        return bool(answer["succeeded"])

    return ask
