"""Records as OpenTelemetry spans, over OTLP/HTTP to a collector. Needs the extra `ondol[otel]`, imported when it is used.

One span per invocation, in its caller's trace, below the caller's span where that is sampled; and below it one for waiting and
one for loading, where there was any. Every record becomes one, sampled or not: the collector may choose.

Bounded: WAITING_MAX records wait; BATCH are sent at a time, by one thread of this sink's own; what a collector does not take is
dropped and counted. Nobody ever waits for a collector but `close`, and that CLOSE_S_MAX at most.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ondol.core import traces
from ondol.model.functions import version_name
from ondol.model.invocations import Status
from ondol.model.limits import MIB
from ondol.model.records import Record

FLUSH_S: Final = 1.0
WAITING_MAX: Final = 20_000
BATCH: Final = 512
#: How long a collector may take for a batch, its retries among it.
EXPORT_S_MAX: Final = 5.0
CLOSE_S_MAX: Final = 2.0
#: That spans are lost is said no more often.
WARN_S: Final = 60.0

_PATH: Final = "/v1/traces"
_MODULE: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

log = logging.getLogger(__name__)


def missing(endpoint: str) -> str:
    """Why spans cannot be sent to `endpoint`, as a sentence; "" when they can, or none was asked for."""
    try:
        found = not endpoint or importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        found = False
    return "" if found else "--otel-endpoint needs the extra that is not installed: pip install 'ondol[otel]', or leave it out."


class OtelSink:
    """See the module. `take` on the loop that made it; `lose` is told how many spans were lost."""

    def __init__(self, endpoint: str, *, lose: Callable[[int], None]) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what it would say again and again is said here
        target = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
        self._endpoint = target
        self._exporter = OTLPSpanExporter(endpoint=target, timeout=EXPORT_S_MAX)
        self._lose = lose
        self._waiting: list[Record] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otel")
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._warned_s = float("-inf")

    def take(self, records: Sequence[Record]) -> None:
        room = max(WAITING_MAX - len(self._waiting), 0)
        self._waiting += records[:room]
        if len(records) > room:
            self._lost(len(records) - room, "more came than could be sent")
        if self._timer is None and self._sending is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._begin)

    async def close(self) -> None:
        """Send what waits, as long as that is quick."""
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                if self._waiting and self._sending is None:
                    self._begin()
                if self._sending is not None:
                    await asyncio.shield(self._sending)
        except TimeoutError:
            log.warning("%d spans were not sent before the end", len(self._waiting))
        if self._timer is not None:
            self._timer.cancel()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends its waiting between two tries, too
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                if not await asyncio.get_running_loop().run_in_executor(self._thread, self._export, batch):
                    self._lost(len(batch), "it did not take them")
        finally:
            self._sending = None

    def _export(self, batch: Sequence[Record]) -> bool:
        """On the sink's thread."""
        try:
            return bool(self._exporter.export([span for record in batch for span in spans_of(record)]).name == "SUCCESS")
        except Exception:
            log.exception("spans could not be made")
            return False

    def _lost(self, count: int, why: str) -> None:
        self._lose(count)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            log.warning("spans for %s are lost (%s)", self._endpoint, why)


def spans_of(record: Record) -> Iterator[Any]:
    """The invocation's span, and those of its waiting and loading."""
    from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags
    from opentelemetry.trace import Status as SpanStatus

    given = traces.parse(record.trace or "") or traces.fresh(os.urandom(24))
    flags = TraceFlags(TraceFlags.SAMPLED if given.sampled else TraceFlags.DEFAULT)

    def context(span: int) -> Any:
        return SpanContext(int(given.id, 16), span, is_remote=False, trace_flags=flags)

    queue_ms, start_ms = record.queue_ms or 0.0, record.start_ms or 0.0
    arrived_ms = record.started_ms - queue_ms
    own = context(_new_id())
    caller = None
    if given.parent and given.sampled is not False:  # a parent that is not sampled was recorded nowhere
        caller = SpanContext(int(given.id, 16), int(given.parent, 16), is_remote=True, trace_flags=flags)
    ok = record.status is Status.OK
    yield _span(
        record.name,
        own,
        caller,
        (arrived_ms, record.ended_ms),
        kind=SpanKind.SERVER,
        status=SpanStatus(StatusCode.UNSET) if ok else SpanStatus(StatusCode.ERROR, record.status.value),
        attributes=attributes_of(record),
    )
    if queue_ms:
        yield _span("wait", context(_new_id()), own, (arrived_ms, record.started_ms))
    if start_ms:
        yield _span("load", context(_new_id()), own, (record.started_ms, record.started_ms + start_ms))


def attributes_of(record: Record) -> dict[str, str | int | bool]:
    """Names are those of OpenTelemetry's conventions where they have one."""
    found: dict[str, str | int | bool | None] = {
        "faas.name": record.name,
        "faas.version": version_name(record.version),
        "faas.invocation_id": record.invocation,
        "faas.coldstart": record.start_ms is not None,
        "faas.max_memory": record.memory_mib * MIB,
        "cloud.account.id": record.account,
        "cloud.region": record.region,
        "ondol.status": record.status.value,
        "ondol.revision": record.revision,
        "ondol.qualifier": record.qualifier,
        "ondol.memory_peak": record.memory_peak_mib * MIB,
        "process.exit.code": record.exit_status,
    }
    return {name: value for name, value in found.items() if value is not None}


def _span(name: str, context: Any, parent: Any, span_ms: tuple[float, float], **more: Any) -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    start_ns, end_ns = (round(at_ms * 1000) * 1000 for at_ms in span_ms)  # as exact as a float of milliseconds is
    resource = Resource({"service.name": "ondol"})
    return ReadableSpan(name, context=context, parent=parent, resource=resource, start_time=start_ns, end_time=end_ns, **more)


def _new_id() -> int:
    return int.from_bytes(os.urandom(8)) or 1
