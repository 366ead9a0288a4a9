"""Deferred calls on their way between front and desk: an accepted call over, a call to run back.

The desk writes it down and answers; only then does the client get its "accepted". Later the desk asks a front to run it. A desk
that was started again knows nothing of what the front still runs for the one before: it asks for every call again, and the
front, which knows, answers with the try that is under way, or was over while no desk was there to hear of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.deferred import Observe
from ondol.core.measuring import DEFERRED_RECEIVED
from ondol.core.outcomes import Tried
from ondol.model.errors import NotFound, OndolError, Unavailable
from ondol.model.invocations import Invocation, Outcome, Status
from ondol.model.principals import Kind, Principal
from ondol.node.link import Handler, Link, error_of, plain_of
from ondol.queue import Deferred, Queue

log = logging.getLogger(__name__)

#: How long an outcome that no desk heard of is kept for the next one.
UNHEARD_S_MAX: Final = 120.0
#: Calls that go to the desk in one piece, at most, and the bytes of their payloads from which on none is added.
BATCH_MAX: Final = 256
BATCH_BYTES_MAX: Final = 1024 * 1024


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
        context={**invocation.context, "trace": invocation.trace, "tenant": invocation.tenant},
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
        tenant=context.pop("tenant", None),
        context=context,
        deferred=True,
    )


def naming(index: Index) -> Callable[[str], str]:
    """A function's name by its id; "" when it is gone."""

    def name_of(function: str) -> str:
        found = index.function(function)
        return found.name if found else ""

    return name_of


def taking(queue: Queue, woken: Callable[[], None], clock: Clock, name_of: Callable[[str], str], observe: Observe) -> Handler:
    """The desk's answer to "defer", a list of calls: on disk when it returns. For each None, or why it was not accepted.

    Its clock alone says when: fronts may see another time.
    """

    async def accept(items: Sequence[Deferred]) -> list[OndolError | None]:
        try:
            await queue.enqueue(items)
        except OndolError as error:
            if len(items) == 1:
                return [error]
            # One that there is no room for must not take the others along.
            return [found for each in await asyncio.gather(*(accept([item]) for item in items)) for found in each]
        return [None] * len(items)

    async def take(_link: Link, value: Any) -> list[list[Any] | None]:
        now_s = clock.wall_s()
        for each in value:
            each.update(name=name_of(each["function"]), accepted_s=now_s, visible_s=now_s)
        items = msgspec.convert(value, list[Deferred])
        refusals = await accept(items)
        if None in refusals:
            woken()
        accepted = Counter(
            (item.account, item.region, item.function) for item, refused in zip(items, refusals, strict=True) if refused is None
        )
        for whose, count in accepted.items():
            observe(*whose, DEFERRED_RECEIVED, count)
        return [None if refused is None else plain_of(refused) for refused in refusals]

    return take


class Deferring:
    """The front's `defer`: returns once the desk has the call on disk.

    What is to be deferred while the desk writes goes over together when it is done: the more there is, the less each costs.
    """

    def __init__(self, call: Callable[[str, Any], Awaitable[Any]], clock: Clock) -> None:
        self._call = call
        self._clock = clock
        self._waiting: deque[tuple[Deferred, asyncio.Future[None]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def __call__(self, invocation: Invocation) -> None:
        """Raises what the desk's queue does, and Unavailable while there is no desk."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((deferred_of(invocation, self._clock.wall_s()), done))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        await done

    async def _send(self) -> None:
        while self._waiting:
            batch = self._batch()
            items = [item for item, _ in batch]  # the line's encoder takes them as they are
            refusals: Sequence[OndolError | None]
            try:
                refusals = [None if told is None else error_of(*told) for told in await self._call("defer", items)]
            except OndolError as error:
                refusals = [error] * len(batch)
            except Exception:  # a mistake of ours must leave nobody waiting
                log.exception("%d deferred calls could not be sent to the desk", len(batch))
                refusals = [Unavailable("the node failed; its log says why")] * len(batch)
            for (_, done), refused in zip(batch, refusals, strict=True):
                if done.done():  # whoever waited was cancelled
                    continue
                if refused is None:
                    done.set_result(None)
                else:
                    done.set_exception(refused)
        self._sending = None

    def _batch(self) -> list[tuple[Deferred, asyncio.Future[None]]]:
        """The first that wait, up to what goes over in one piece."""
        taken, size = [self._waiting.popleft()], 0
        while self._waiting and len(taken) < BATCH_MAX and size < BATCH_BYTES_MAX:
            size += len(self._waiting[0][0].payload)
            taken.append(self._waiting.popleft())
        return taken


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

    def tries(self) -> list[tuple[str, int]]:
        """(id, attempt) of those under way, and of those over that nobody heard of."""
        return list(self._tries)

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
