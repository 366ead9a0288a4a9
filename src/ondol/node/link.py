"""The local line between front and desk: calls and casts, both ways, as framed msgpack on a stream socket.

A frame is `u32 length | msgpack [number, name, value]`. A call's number is positive and its reply is `[-number, "", value]`,
or `[-number, "!", [kind, message, fields]]` for an OndolError (`kind` is the class's name: both ends are one release of one
program). A cast has number 0 and no reply.

Bounded: frames of FRAME_BYTES_MAX, CALLS_MAX waiting calls, WRITE_BYTES_MAX unsent bytes, and CASTS_BYTES_MAX of casts that are
being worked on: beyond that nothing is read, so that a slow disk is felt where the casts are made. Calls do not count: their
makers wait for them. Order: messages are taken up in the order they were sent, so a handler that finishes without waiting for
anything (a change of the catalog) has finished before the next one begins.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import msgspec

from ondol.model import errors
from ondol.model.errors import OndolError, Unavailable

FRAME_BYTES_MAX: Final = 256 * 1024 * 1024
CALLS_MAX: Final = 10_000
WRITE_BYTES_MAX: Final = 64 * 1024 * 1024
CASTS_BYTES_MAX: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)

_SERIALS: Final = itertools.count(1)

#: Answers one call or takes one cast.
Handler = Callable[["Link", Any], Awaitable[Any]]


class Link(asyncio.Protocol):
    """One end. `handlers` maps names to what answers them; `on_lost` is called once when the line closes."""

    def __init__(self, handlers: Mapping[str, Handler], on_lost: Callable[[Link], None] | None = None) -> None:
        self._handlers = handlers
        self._on_lost = on_lost
        #: Of two lines of one process, the greater is the later.
        self.serial = next(_SERIALS)
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        #: Casts that are being worked on, and whether that keeps us from reading.
        self._casts_bytes = 0
        self._held_back = False
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode
        self.lost = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def call(self, name: str, value: Any) -> Any:
        """The other end's answer. Raises the OndolError it raised, or Unavailable when the line closes first."""
        if not self._has_room() or len(self._calls) >= CALLS_MAX:
            raise Unavailable("the node's other half is away for a moment; try again")
        self._number += 1
        future = asyncio.get_running_loop().create_future()
        self._calls[self._number] = future
        number = self._number
        self._send(number, name, value)
        try:
            return await future
        finally:
            self._calls.pop(number, None)  # whoever asked may have been cancelled

    def cast(self, name: str, value: Any) -> bool:
        """Send without an answer. False when the line is closed or too much waits to be sent."""
        if not self._has_room():
            return False
        self._send(0, name, value)
        return True

    def send(self, name: str, value: Any) -> None:
        """A cast that belongs to the answer of a call, and waits to be sent however much waits already."""
        self._send(0, name, value)

    def close(self) -> None:
        """Once what was sent is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Now, whatever waits to be sent: the other end does not read."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol ------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            length = int.from_bytes(buffer[at : at + 4], "little")
            if length > FRAME_BYTES_MAX:
                log.error("a frame of %d bytes on a local line: closing it", length)
                self.close()
                return
            if len(buffer) - at - 4 < length:
                break
            self._take(self._decode(memoryview(buffer)[at + 4 : at + 4 + length]), length)
            at += 4 + length
        if at:
            self._buffer = buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        for future in self._calls.values():
            if not future.done():
                future.set_exception(Unavailable("the node's other half went away; try again"))
        self._calls.clear()
        if not self.lost.done():
            self.lost.set_result(None)
        if self._on_lost is not None:
            self._on_lost(self)

    # ------------------------------------------------------------------------------------------------------------------
    def _send(self, number: int, name: str, value: Any) -> None:
        payload = self._encode((number, name, value))
        if self._transport is not None:
            self._transport.write(len(payload).to_bytes(4, "little") + payload)

    def _has_room(self) -> bool:
        transport = self._transport
        return transport is not None and self.open and transport.get_write_buffer_size() <= WRITE_BYTES_MAX

    def _take(self, message: Any, size: int) -> None:
        number, name, value = message
        if number < 0:
            self._settle(-number, name, value)
            return
        task = asyncio.get_running_loop().create_task(self._answer(number, name, value))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if number == 0:
            self._casts_bytes += size
            task.add_done_callback(lambda _: self._cast_done(size))
            self._hold_back()

    def _cast_done(self, size: int) -> None:
        self._casts_bytes -= size
        self._hold_back()

    def _hold_back(self) -> None:
        """Read no more while too many casts are being worked on; go on when half of them are done."""
        hold = self._casts_bytes > (CASTS_BYTES_MAX // 2 if self._held_back else CASTS_BYTES_MAX)
        if self._transport is None or hold == self._held_back or self._transport.is_closing():
            return
        self._held_back = hold
        if hold:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _settle(self, number: int, name: str, value: Any) -> None:
        future = self._calls.pop(number, None)
        if future is None or future.done():
            return
        if name == "!":
            future.set_exception(error_of(*value))
        else:
            future.set_result(value)

    async def _answer(self, number: int, name: str, value: Any) -> None:
        try:
            result = await self._handlers[name](self, value)
        except OndolError as error:
            if number:
                self._send(-number, "!", plain_of(error))
        except Exception:
            log.exception("answering %r on a local line", name)
            if number:
                self._send(-number, "!", ["Unavailable", "the node failed; its log says why", {}])
        else:
            if number:
                self._send(-number, "", result)


def plain_of(error: OndolError) -> list[Any]:
    """An error as it goes over: its class's name, its sentence, and what else it carries, as far as that is plain."""
    fields = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float)}
    return [type(error).__name__, str(error), fields]


def error_of(kind: str, message: str, fields: Mapping[str, Any]) -> OndolError:
    """The error as the other end raised it. Not made by its constructor, which may want what only that end knows."""
    made = getattr(errors, kind, Unavailable)
    error: OndolError = made.__new__(made)
    error.args = (message,)
    for name, value in fields.items():
        setattr(error, name, value)
    return error
