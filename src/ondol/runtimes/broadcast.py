"""What subscribers are told of an environment: the platform's events, and the lines of the function and of extensions.

Forms and names are the documented ones. Events from before the first subscription are kept, as long as the environment loads:
who subscribes then gets them. Must not know: how events are delivered.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any, Final

from ondol.model.invocations import Report, Status
from ondol.runtime import LogSink
from ondol.runtimes.subscription import Deliver, Subscription
from ondol.runtimes.telemetry_wanted import Api, Wanted

#: Of events from before a subscription.
EARLY_MAX: Final = 512
#: What the older API tells of the platform, besides `platform.runtimeDone` in its second version, and by which name.
_OLDER: Final = frozenset(
    ("platform.start", "platform.end", "platform.report", "platform.extension", "platform.logsSubscription", "platform.fault")
)
#: What only the older one has.
_OLDER_ONLY: Final = frozenset(("platform.end", "platform.logsSubscription", "platform.fault"))
_FALLEN_BEHIND: Final = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."
_STATUS: Final[Mapping[Status, str]] = {Status.OK: "success", Status.TIMEOUT: "timeout"}
_ERROR_TYPES: Final[Mapping[Status, str]] = {
    Status.CRASHED: "Runtime.ExitError",
    Status.OUT_OF_MEMORY: "Runtime.OutOfMemory",
    Status.TOO_LARGE: "Function.ResponseSizeTooLarge",
}

Event = Mapping[str, Any]


class Broadcast:
    """Of one environment."""

    def __init__(self, *, json_lines: bool) -> None:
        """`json_lines`: what the function writes may be JSON, and newer forms have it as such."""
        self._json_lines = json_lines
        self._subscriptions: dict[tuple[str, Api], Subscription] = {}
        #: None: nobody wants to know.
        self._early: list[tuple[str, Event]] | None = None

    # Who listens -------------------------------------------------------------------------------------------------------
    def listen(self) -> None:
        """From now on events are kept for those who subscribe later."""
        if self._early is None:
            self._early = []

    def loaded(self) -> None:
        """Nobody subscribes any more."""
        self._early = None

    def subscribe(self, who: str, wanted: Wanted, deliver: Deliver) -> None:
        """In the place of what the same extension asked for before."""
        key = (who, wanted.api)
        former = self._subscriptions.pop(key, None)
        if former is not None:
            former.close()
        made = self._subscriptions[key] = Subscription(wanted, deliver, _dropped)
        for group, event in self._early or ():
            _add(made, group, event, json_lines=self._json_lines)

    @property
    def subscriptions(self) -> list[Subscription]:
        return list(self._subscriptions.values())

    def pause(self, *, on: bool) -> None:
        """Nobody can take anything, or they can again."""
        for subscription in self._subscriptions.values():
            subscription.pause(on=on)

    def close(self) -> None:
        self._early = None
        for subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()

    # Lines -------------------------------------------------------------------------------------------------------------
    def tapped(self, sink: LogSink) -> LogSink:
        """The sink for what the function writes, and what it writes to subscribers, too."""

        def both(text: str, at_ms: int | None) -> None:
            sink(text, at_ms)
            if self._subscriptions or self._early is not None:
                self._tell("function", {"time": _time(at_ms), "type": "function", "record": text})

        return both

    def extension(self, text: str, at_ms: int | None) -> None:
        """What an extension wrote."""
        self._tell("extension", {"time": _time(at_ms), "type": "extension", "record": text})

    # The platform's events ---------------------------------------------------------------------------------------------
    def platform(self, kind: str, record: Mapping[str, Any] | str, at_s: float | None = None) -> Event:
        """Tell of it; the event."""
        event = {"time": _time(None if at_s is None else int(at_s * 1000)), "type": kind, "record": record}
        self._tell("platform", event)
        return event

    def start(self, meta: Mapping[str, Any], version: str) -> None:
        arn = {"functionArn": meta["arn"]} if meta.get("arn") else {}
        record = {"requestId": meta.get("id", ""), "version": version, **arn, **_tracing(meta.get("trace"))}
        self.platform("platform.start", record)

    def runtime_done(self, report: Report, produced_bytes: int) -> None:
        outcome = _outcome(report)
        metrics = {"durationMs": _took_ms(report), "producedBytes": produced_bytes}
        self.platform("platform.runtimeDone", {**outcome, **_tracing(report.trace), "metrics": metrics})

    def fault(self, text: str) -> None:
        """Something in the environment failed. The newer API tells of that by `platform.runtimeDone` and its kin."""
        self.platform("platform.fault", text)

    def cut_short(self, meta: Mapping[str, Any], reason: str, error_type: str) -> None:
        """A call whose environment is ended: it ran out of time, or something failed."""
        timeout = reason == "timeout"
        outcome = {"status": "timeout"} if timeout else {"status": "error", "errorType": error_type}
        record = {"requestId": meta.get("id", ""), **outcome, **_tracing(meta.get("trace"))}
        self.platform("platform.runtimeDone", record)

    def report(self, report: Report, rested_ms: float) -> None:
        """`rested_ms`: how long extensions took behind the answer, which counts."""
        took_ms = round(_took_ms(report) + rested_ms, 3)
        metrics: dict[str, Any] = {
            "durationMs": took_ms,
            "billedDurationMs": max(1, math.ceil(took_ms + (report.init_ms or 0.0))),
            "memorySizeMB": report.memory_mib,
            "maxMemoryUsedMB": report.memory_peak_mib,
        }
        if report.init_ms is not None:
            metrics["initDurationMs"] = round(report.init_ms, 3)
        self.platform("platform.end", {"requestId": report.invocation})
        began_ms = int(time.time() * 1000 - rested_ms)
        spans = [{"name": "extensionOverhead", "start": _time(began_ms), "durationMs": round(rested_ms, 3)}]
        self.platform("platform.report", {**_outcome(report), "metrics": metrics, **_tracing(report.trace), "spans": spans})

    def reported(self, report: Report) -> None:
        """All that is told of the end of a call that may run beside others."""
        metrics = {"durationMs": _took_ms(report)}
        self.platform("platform.report", {**_outcome(report), "metrics": metrics, **_tracing(report.trace)})

    def _tell(self, group: str, event: Event) -> None:
        if self._early is not None and len(self._early) < EARLY_MAX:
            self._early.append((group, event))
        for subscription in self._subscriptions.values():
            _add(subscription, group, event, json_lines=self._json_lines)


def _add(subscription: Subscription, group: str, event: Event, *, json_lines: bool) -> None:
    """Where the subscription has this kind of event, in the form that it asked for."""
    wanted = subscription.wanted
    if group not in wanted.types:
        return
    kind = event["type"]
    if group != "platform":
        if json_lines and group == "function" and wanted.schema >= "2022-12-13":
            event = {**event, "record": _as_object(event["record"])}
    elif wanted.api is Api.TELEMETRY:
        if kind in _OLDER_ONLY:
            return
    elif kind == "platform.runtimeDone":
        if wanted.schema == "2020-08-15":
            return
        event = {**event, "record": {name: event["record"][name] for name in ("requestId", "status")}}
    elif kind not in _OLDER:
        return
    elif kind == "platform.report":
        event = {**event, "record": {name: event["record"][name] for name in ("requestId", "metrics")}}
    subscription.add(event)


def _as_object(text: str) -> Any:
    """A record that the function wrote as JSON, as that."""
    if not text.startswith("{"):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def _dropped(records: int, size: int) -> Event:
    record = {"reason": _FALLEN_BEHIND, "droppedRecords": records, "droppedBytes": size}
    return {"time": _time(None), "type": "platform.logsDropped", "record": record}


def _outcome(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {"requestId": report.invocation, "status": _STATUS.get(report.status, "error")}
    if report.status in _ERROR_TYPES:
        found["errorType"] = _ERROR_TYPES[report.status]
    return found


def _took_ms(report: Report) -> float:
    return report.timeout_s * 1000.0 if report.status is Status.TIMEOUT else round(report.duration_ms, 3)


def _tracing(trace: Any) -> dict[str, Any]:
    return {"tracing": {"type": "X-Amzn-Trace-Id", "value": trace}} if trace else {}


def _time(at_ms: int | None) -> str:
    """A moment as events have it, to the millisecond; None: now."""
    at = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at // 1000))}.{at % 1000:03d}Z"
