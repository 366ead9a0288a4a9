"""`/stats`, `/doctor`, `/settings` and `/openapi.json`: the node itself. Nothing here is a secret.

What the numbers are and where they come from is for whoever wires this (`ondol.node.looking`); here they get their names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ondol.dialects.native import openapi
from ondol.dialects.native.operations import JSON, Asked, Operation, Operations, Reply
from ondol.http.messages import Response


class PoolStats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Environments at this moment, in the state they are in, and the calls that wait for one."""

    starting: int
    idle: int
    busy: int
    stopping: int
    frozen: Annotated[int, Meta(description="idle ones that use no processor until they are called")]
    waiting: int
    memory_mib: Annotated[int, Meta(description="promised to environments")]
    memory_mib_max: int
    cold_starts: Annotated[int, Meta(description="since the front came up")]
    failed_starts: int


class QueueStats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deferred calls of all accounts."""

    waiting: Annotated[int, Meta(description="accepted and not over: those that run too")]
    waiting_bytes: int
    dead: int


class ProcessStats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the node's own processes."""

    role: Annotated[str, Meta(description="supervisor, keeper, front or desk")]
    pid: int
    started_s: float
    cpu_s: Annotated[float, Meta(description="processor time since it started")]
    rss_bytes: int
    threads: int


class StatsDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node at this moment."""

    version: str
    started_s: float
    uptime_s: float
    functions: Annotated[int, Meta(description="of this account and region")]
    pool: Annotated[PoolStats | None, Meta(description="null while no front answers")]
    queue: QueueStats
    processes: list[ProcessStats]


class FindingDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that was looked at. Without a `needed` one no node can run."""

    part: str
    what: str
    ok: bool
    needed: bool
    detail: str
    means: Annotated[str, Meta(description="what it means that it is missing; empty when it is there")]
    mend: Annotated[str, Meta(description="how to get it; empty when there is nothing to mend")]


class DoctorDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `ondol doctor` finds. Isolation and interpreters are as they were found when the node started."""

    able: bool
    findings: list[FindingDocument]


class SettingDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A setting in force."""

    name: str
    value: bool | int | float | str | list[str] | None
    source: Annotated[str, Meta(description="the option, variable or file that it was read from, or `default`")]


class SettingsDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. None of them is a secret."""

    settings: list[SettingDocument]


def _looking(method: str, path: str, summary: str, reply: Reply) -> Operation:
    return Operation(id=f"node.{method}", method="GET", path=path, summary=summary, action="node:read", replies={200: reply})


OPERATIONS: Final = (
    _looking("stats", "/stats", "The pool, the queue and the processes now.", Reply("The numbers.", StatsDocument)),
    _looking("doctor", "/doctor", "What this machine gives the node, and what is missing.", Reply("Findings.", DoctorDocument)),
    _looking("settings", "/settings", "The settings in force, and where each comes from.", Reply("All.", SettingsDocument)),
    _looking("openapi", "/openapi.json", "This API in OpenAPI 3.1.", Reply("The document.", dict[str, Any])),
)


class NodeRoutes:
    """The part. Each callable gives plain data in the form of its document."""

    operations = OPERATIONS

    def __init__(
        self,
        *,
        stats: Callable[[str, str], Awaitable[dict[str, Any]]],
        doctor: Callable[[], Awaitable[dict[str, Any]]],
        settings: Callable[[], list[dict[str, Any]]],
        declared: Operations,
        version: str,
    ) -> None:
        self._stats = stats
        self._doctor = doctor
        self._settings = settings
        self._declared = declared
        self._version = version

    async def stats(self, asked: Asked) -> StatsDocument:
        """Of the whole node; functions are counted in the account and region of who asks."""
        return msgspec.convert(await self._stats(asked.principal.account, asked.principal.region), StatsDocument)

    async def doctor(self, _asked: Asked) -> DoctorDocument:
        return msgspec.convert(await self._doctor(), DoctorDocument)

    async def settings(self, _asked: Asked) -> SettingsDocument:
        return msgspec.convert({"settings": self._settings()}, SettingsDocument)

    async def openapi(self, _asked: Asked) -> Response:
        document = openapi.document(self._declared.all, self._version)
        return Response(200, (("content-type", JSON),), msgspec.json.encode(document))
