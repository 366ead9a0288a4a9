"""Deferred calls on their way between front and desk: an accepted call over, a call to run back.

The desk writes it down and answers; only then does the client get its "accepted". Later the desk asks a front to run it. A desk
that was started again knows nothing of what the front still runs for the one before: it asks for every call again, and the
front, which knows, answers with the try that is under way, or was over while no desk was there to hear of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.deferred import Observe
from ondol.core.measuring import DEFERRED_RECEIVED
from ondol.core.outcomes import Tried
from ondol.model.errors import NotFound, Unavailable
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.node.link import Handler, Link
from ondol.queue import Deferred, Queue

#: How long an outcome that no desk heard of is kept for the next one.
UNHEARD_S_MAX: Final = 120.0


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


def naming(index: Index) -> Callable[[str], str]:
    """A function's name by its id; "" when it is gone."""

    def name_of(function: str) -> str:
        found = index.function(function)
        return found.name if found else ""

    return name_of


def taking(queue: Queue, woken: Callable[[], None], clock: Clock, name_of: Callable[[str], str], observe: Observe) -> Handler:
    """The desk's answer to "defer": on disk when it returns. Its clock alone says when: fronts may see another time."""

    async def take(_link: Link, value: Any) -> None:
        item = msgspec.convert(value, Deferred)
        now_s = clock.wall_s()
        await queue.enqueue([replace(item, name=name_of(item.function), accepted_s=now_s, visible_s=now_s)])
        woken()
        observe(item.account, item.region, item.function, DEFERRED_RECEIVED, 1)

    return take


def deferring(call: Callable[[str, Any], Awaitable[Any]], clock: Clock) -> Callable[[Invocation], Awaitable[None]]:
    """The front's `defer`: returns once the desk has it on disk."""

    async def defer(invocation: Invocation) -> None:
        await call("defer", msgspec.to_builtins(deferred_of(invocation, clock.wall_s()), builtin_types=(bytes,)))

    return defer


class Runs:
    """The front's answer to "run": one task for each try, whoever asks for it and however often."""

    def __init__(self, invoke: Callable[[Invocation], Awaitable[Outcome]]) -> None:
        self._invoke = invoke
        self._tries: dict[tuple[str, int], asyncio.Task[dict[str, Any]]] = {}
        #: Who asked for a try last.
        self._askers: dict[tuple[str, int], Link | None] = {}

    async def run(self, link: Link | None, value: Any) -> dict[str, Any]:
        """`value`: [item, how many bytes of the answer are wanted]. What it came to; raises what `invoke` raised."""
        item = msgspec.convert(value[0], Deferred)
        key = (item.id, item.attempts)
        task = self._tries.get(key)
        self._askers[key] = link
        if task is None:
            task = self._tries[key] = asyncio.create_task(self._try(item, value[1]))
            task.add_done_callback(lambda done: self._ended(key, done))
        elif task.done():
            self._forget(key)
        return await asyncio.shield(task)

    def _ended(self, key: tuple[str, int], task: asyncio.Task[dict[str, Any]]) -> None:
        """Heard of at once, or kept for who comes next; a try that nothing came of is made again."""
        asker = self._askers.get(key)
        if asker is None or asker.open or task.cancelled() or task.exception() is not None:
            self._forget(key)
        else:
            asyncio.get_running_loop().call_later(UNHEARD_S_MAX, self._forget, key)

    def _forget(self, key: tuple[str, int]) -> None:
        self._tries.pop(key, None)
        self._askers.pop(key, None)

    async def _try(self, item: Deferred, bytes_max: int) -> dict[str, Any]:
        try:
            outcome = await self._invoke(invocation_of(item))
        except NotFound as error:
            return {"missing": error.name}
        succeeded = outcome.status is Status.OK
        try:
            body, whole = await _read(outcome.body, bytes_max)
        except Unavailable as error:  # the function went away in the middle of its answer
            succeeded, body, whole = False, str(error).encode(), True
        return {"succeeded": succeeded, "body": body, "whole": whole, "version": outcome.target_version}


def asking(run: Callable[[Any], Awaitable[Any]]) -> Callable[[Deferred, int], Awaitable[Tried]]:
    """What the desk's dispatcher runs an item with. Raises NotFound and what else a front raised."""

    async def ask(item: Deferred, bytes_max: int) -> Tried:
        answer = await run([msgspec.to_builtins(item, builtin_types=(bytes,)), bytes_max])
        if "missing" in answer:
            raise NotFound("function", answer["missing"])
        return Tried(**answer)

    return ask


async def _read(body: Any, bytes_max: int) -> tuple[bytes, bool]:
    """The first bytes of an answer, and whether they are all; a stream's rest is left to come to its end."""
    if isinstance(body, bytes):
        return body[:bytes_max], len(body) <= bytes_max
    parts, size = [], 0
    async for chunk in body:
        parts.append(bytes(chunk[: bytes_max - size]))
        size += len(chunk)
        if size > bytes_max:
            await body.aclose()
            return b"".join(parts), False
    return b"".join(parts), True
