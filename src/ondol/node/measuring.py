"""Calls on their way from the front to the desk: what was measured of them, summed up, and one record each.

At the front a call costs one look at the admission's counters and one append; sums and records are made FLUSH_S later, at most
CHUNK calls at a time. Records are sent then, sums every SUMS_S. Bounded: CALLS_MAX calls not looked at yet, RECORDS_MAX records
and `Tally`'s number of sums while the desk is away; what is dropped is counted and the count goes over with the next sums.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.measuring import UNITS, Level, Levels, Sum, Tally, counted_ms, observed, points_of, points_of_level
from ondol.core.totals import Totals
from ondol.meter import Meter
from ondol.model.functions import Function, Target
from ondol.model.invocations import Report
from ondol.model.records import Record
from ondol.node.link import Handler, Link
from ondol.recorder import Recorder

FLUSH_S: Final = 0.05
SUMS_S: Final = 1.0
AGAIN_S: Final = 1.0
GAUGES_S: Final = 5.0
#: Calls looked at in one turn of the loop.
CHUNK: Final = 500
CALLS_MAX: Final = 100_000
RECORDS_MAX: Final = 50_000
#: Calls under way whose waits are remembered.
WAITED_MAX: Final = 20_000
#: Functions that throttles are counted for between two flushes.
THROTTLED_MAX: Final = 10_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Measured:
    """What a front sends. `lost` is by what was lost."""

    sums: list[Sum] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] | None = None


class Measuring:
    """The front's half. `send` (a cast to the desk) answers whether it could take what it was given."""

    def __init__(
        self,
        send: Callable[[Measured], bool],
        levels: Callable[[Function], Levels],
        index: Index,
        clock: Clock,
    ) -> None:
        self._send = send
        self._levels = levels
        self._index = index
        self._clock = clock
        self._calls: list[tuple[Target, Report, Levels]] = []
        self._throttled: Counter[tuple[str, str, str]] = Counter()
        #: Milliseconds that invocations under way had to wait, by their ids.
        self._waited: dict[str, float] = {}
        self._tally = Tally()
        self._records: list[Record] = []
        self._lost: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._sums_at_s = 0.0

    def waited(self, invocation: str, seconds: float) -> None:
        if len(self._waited) >= WAITED_MAX:
            self._waited.clear()  # of calls that never ended; those under way lose their waits with them
        self._waited[invocation] = self._waited.get(invocation, 0.0) + seconds * 1000

    def settled(self, target: Target, report: Report) -> None:
        """On the hot path: nothing but an append."""
        calls = self._calls
        if len(calls) >= CALLS_MAX:
            self._lost["calls"] += 1
            return
        calls.append((target, report, self._levels(target.function)))
        if self._timer is None:
            self._arm(FLUSH_S)

    def rested(self, target: Target, seconds: float) -> None:
        """Of functions with extensions only: added up at once."""
        self._tally.rest(target, self._clock.wall_s(), seconds * 1000)
        if self._timer is None:
            self._arm(FLUSH_S)

    def throttled(self, account: str, region: str, function: str) -> None:
        """`function`: its opaque id."""
        key = (account, region, function)
        if key in self._throttled or len(self._throttled) < THROTTLED_MAX:
            self._throttled[key] += 1
        if self._timer is None:
            self._arm(FLUSH_S)

    async def serve(self, gauges: Callable[[], dict[str, float]]) -> None:
        """Say how the node is, now and then; until cancelled."""
        while True:
            self._send(Measured(gauges=gauges()))
            await asyncio.sleep(GAUGES_S)

    def flush(self) -> None:
        """Send everything now: at the end."""
        self._disarm()
        while self._calls or self._throttled:
            self._look()
        self._send_all(sums=True)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._turn)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self._disarm()
        self._look()
        now_s = self._clock.now_s()
        due = now_s - self._sums_at_s >= SUMS_S
        sent = self._send_all(sums=due)
        if sent and due:
            self._sums_at_s = now_s
        if self._calls:
            self._arm(0.001)  # others get their turns first
        elif not sent:
            self._arm(AGAIN_S)
        elif not self._tally.empty:
            self._arm(FLUSH_S)  # calls that come meanwhile are looked at in time

    def _look(self) -> None:
        """Add the next calls up."""
        calls, self._calls = self._calls[:CHUNK], self._calls[CHUNK:]
        tally, records = self._tally, self._records
        room = RECORDS_MAX - len(records)
        tally.add_all(calls)
        waited_ms = self._waited.pop
        for target, report, _ in calls:
            queue_ms = waited_ms(report.invocation, 0.0)
            if room > 0:
                room -= 1
                records.append(record_of(target, report, queue_ms))
            else:
                self._lost["records"] += 1
        if self._throttled:
            at_s = self._clock.wall_s()
            throttled, self._throttled = self._throttled, Counter()
            for (account, region, function), count in throttled.items():
                found = self._index.function(function)
                if found is not None:
                    tally.throttle(account, region, found.name, at_s, count)

    def _send_all(self, *, sums: bool) -> bool:
        """Records, and the sums if it is their turn. False: the desk is away, and everything is still here."""
        records = self._records
        if records and not self._send(Measured(records=records)):
            return False
        self._records = []
        if not sums or self._tally.empty:
            return True
        taken = self._tally.take()
        lost = {what: count for what, count in (self._lost + Counter(calls=taken.lost)).items() if count}
        if self._send(Measured(sums=taken.sums, levels=taken.levels, lost=lost)):
            self._lost.clear()
            return True
        self._tally.put_back(taken)
        return False


class Logging(Protocol):
    """The part that takes log events."""

    @property
    def log(self) -> Callable[..., None]: ...


class FrontTelemetry:
    """`ondol.telemetry.Telemetry` of two parts, without a call more between a caller and the part that answers."""

    def __init__(self, logs: Logging, measuring: Measuring) -> None:
        self.log = logs.log
        self.waited = measuring.waited
        self.settled = measuring.settled
        self.rested = measuring.rested
        self.throttled = measuring.throttled


def record_of(target: Target, report: Report, queue_ms: float) -> Record:
    """What is kept of a call."""
    function, handler_ms = target.function, counted_ms(report)
    return Record(
        invocation=report.invocation,
        account=function.account,
        region=function.region,
        function=function.id,
        name=function.name,
        revision=report.revision,
        version=report.version,
        qualifier=target.qualifier,
        status=report.status,
        started_ms=int(report.ended_s * 1000 - (report.init_ms or 0.0) - handler_ms),
        queue_ms=queue_ms,
        start_ms=report.init_ms,
        handler_ms=handler_ms,
        memory_mib=report.memory_mib,
        memory_peak_mib=report.memory_peak_mib,
        exit_status=report.exit_status,
        trace=report.trace,
    )


# The desk's half -------------------------------------------------------------------------------------------------------
def both(handler: Handler, read: Callable[[Any], None]) -> Handler:
    """Has what comes looked at by `read`, too, once the handler is done with it."""

    async def take(link: Link, value: Any) -> Any:
        answer = await handler(link, value)
        read(value)
        return answer

    return take


class Sink(Protocol):
    """Somewhere that records are sent on to."""

    def take(self, records: Sequence[Record]) -> None:
        """Never blocks, never raises."""
        ...

    async def close(self) -> None: ...


class Measures:
    """Where all that is measured comes together: `handler` takes what fronts send, `observe` what the desk itself sees.

    `sinks` are sent every record; they are closed here, meter and recorder by who made them.
    """

    def __init__(
        self, meter: Meter, recorder: Recorder, totals: Totals, sinks: Sequence[Sink] = (), *, index: Index, clock: Clock
    ) -> None:
        self._meter = meter
        self._recorder = recorder
        self._totals = totals
        self._index = index
        self._clock = clock
        self._sinks = sinks
        #: How each front was when it last said so.
        self._gauges: dict[Link | None, dict[str, float]] = {}

    def observe(self, account: str, region: str, function: str, name: str, value: float) -> None:
        """One value of one function (its opaque id). `name`: a key of `core.measuring.UNITS`.

        Never blocks, never raises. What is observed of a function that is gone counts under its id.
        """
        if name not in UNITS:
            log.error("nothing is measured as %r", name)  # a mistake of ours, and no reason to lose a call over
            return
        found = self._index.function(function)
        called = found.name if found else function
        points = list(observed(account, region, called, name, value=value, at_s=self._clock.wall_s()))
        self._totals.observe(account, region, called, name, value)
        self._totals.lose("metrics", self._meter.add(points))

    def take(self, measured: Measured, front: Link | None = None) -> None:
        """What a front has measured."""
        totals = self._totals
        for each in measured.sums:
            totals.add(each)
            totals.lose("metrics", self._meter.add(list(points_of(each))))
        for level in measured.levels:
            self._meter.add(list(points_of_level(level)))
        for what, count in measured.lost.items():
            totals.lose(what, count)
        if measured.gauges is not None:
            self._gauges[front] = measured.gauges
            self._sum_gauges()
        if measured.records:
            totals.lose("records", self._recorder.add(measured.records))
            for sink in self._sinks:
                sink.take(measured.records)

    def lost(self, front: Link) -> None:
        """A front is gone, with what it had."""
        if self._gauges.pop(front, None) is not None:
            self._sum_gauges()

    def _sum_gauges(self) -> None:
        summed: Counter[str] = Counter()
        for gauges in self._gauges.values():
            summed.update(gauges)
        self._totals.gauges = dict(summed)

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()

    @property
    def handler(self) -> Handler:
        async def take(link: Link, value: Any) -> None:
            self.take(msgspec.convert(value, Measured), link)

        return take
