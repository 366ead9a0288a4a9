"""What the desk says of the node when it is asked: numbers, findings, settings. Plain data; the native API names it."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from ondol import __version__, config
from ondol.core.catalog import Index
from ondol.node.examining import Finding, Interpreter, Look, able, examine
from ondol.node.following import Followers
from ondol.node.link import Handler, Link
from ondol.node.orders import Orders
from ondol.queue import QueueSize

#: The front's numbers, on the line between front and desk.
STATS: Final = "stats"
#: What has become of the environments that are to be kept up, on the same line.
KEPT: Final = "kept"
#: A front that does not say its numbers within this is left out.
FRONT_S_MAX: Final = 2.0

#: USER:PASSWORD@ of an address.
_SIGNED_IN: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def telling(stats: Callable[[], Any], kept: Callable[[], Mapping[str, Any]]) -> dict[str, Handler]:
    """The front's answers to "stats", its pool's numbers, and to "kept", what its pool keeps up of each revision."""

    async def tell(_link: Link, _value: Any) -> dict[str, Any]:
        return asdict(stats())

    async def tell_kept(_link: Link, _value: Any) -> dict[str, tuple[int, str]]:
        return {revision: (each.up, each.why) for revision, each in kept().items()}

    return {STATS: tell, KEPT: tell_kept}


def keeping(followers: Followers) -> Callable[[], Awaitable[dict[str, tuple[int, str]]]]:
    """Of each revision, how many environments all fronts keep up together, and why there are not more, if one knows."""

    async def look() -> dict[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        for front in await followers.ask(KEPT, None, FRONT_S_MAX):
            for revision, (up, why) in front.items():
                before = found.get(revision, (0, ""))
                found[revision] = (before[0] + up, before[1] or why)
        return found

    return look


def stats(
    index: Index, followers: Followers, queue: Callable[[], Awaitable[QueueSize]], supervisor: int
) -> Callable[[str, str], Awaitable[dict[str, Any]]]:
    """The node now. `supervisor`: the id of its first process, whose children the others are."""

    async def look(account: str, region: str) -> dict[str, Any]:
        fronts, size, processes = await asyncio.gather(
            followers.ask(STATS, None, FRONT_S_MAX), queue(), asyncio.to_thread(family, supervisor)
        )
        started_s = min((process["started_s"] for process in processes), default=time.time())
        return {
            "version": __version__,
            "started_s": started_s,
            "uptime_s": max(time.time() - started_s, 0.0),
            "functions": sum((f.account, f.region) == (account, region) for f in index.functions()),
            "pool": summed(fronts),
            "queue": asdict(size),
            "processes": processes,
        }

    return look


def summed(fronts: Sequence[Mapping[str, int]]) -> dict[str, int] | None:
    """The numbers of all fronts; None when none answered."""
    return {name: sum(front[name] for front in fronts) for name in fronts[0]} if fronts else None


def doctor(
    orders: Orders, writable: Path, supervisor: int, lacking: Callable[[Mapping[str, Any]], str]
) -> Callable[[], Awaitable[dict[str, Any]]]:
    """As `ondol doctor`, for the node that runs: isolation and interpreters as the supervisor found them at the start.

    `lacking` says what an interpreter needs besides, to run functions; "" for nothing.
    """

    def look() -> dict[str, Any]:
        interpreters = {
            name: Interpreter(
                path=each["path"], version=f"{each['major']}.{each['minor']}.{each['micro']}", lacks=lacking(each)
            )
            for name, each in ((_runtime(each), each) for each in orders.interpreters)
        }
        findings = examine(
            orders.settings,
            probe=lambda: [SimpleNamespace(**each) for each in orders.isolation],
            interpreters=lambda: interpreters,
            listener=Finding(part="host", what="node", ok=True, detail=f"runs at {orders.endpoint}"),
            look=Look(writable=writable, uid=_owner(supervisor)),
        )
        return {"able": able(findings), "findings": [asdict(finding) for finding in findings]}

    async def off_the_loop() -> dict[str, Any]:
        return await asyncio.to_thread(look)

    return off_the_loop


def _runtime(interpreter: Mapping[str, Any]) -> str:
    """The id of what an interpreter runs."""
    language, major, minor = interpreter.get("language", "python"), interpreter["major"], interpreter["minor"]
    whole = {"nodejs": f"nodejs{major}.x", "java": f"java{major}"}
    return whole.get(language) or f"{language}{major}.{minor}"


def settings(given: config.Settings) -> list[dict[str, Any]]:
    """Each setting in force, and where it was read."""
    shown = []
    for spec in config.SPECS:
        value = shown_of(getattr(given, spec.name))
        shown.append({"name": spec.name, "value": value, "source": given.sources.get(spec.name, "default")})
    return shown


def shown_of(value: Any) -> Any:
    """A setting's value as plain data. Who signs in with an address is not shown: that is a secret."""
    if isinstance(value, tuple):
        return [shown_of(each) for each in value]
    return _SIGNED_IN.sub("***@", str(value)) if isinstance(value, str | Path) else value


# Processes -----------------------------------------------------------------------------------------------------------
def family(supervisor: int) -> list[dict[str, Any]]:
    """The node's own processes that this one may see: the first, and its children. Reads /proc."""
    found = []
    boot_s = time.time() - _uptime_s()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except (OSError, UnicodeDecodeError):
            continue  # it is gone
        role = "supervisor" if int(entry) == supervisor else role_of(words) if int(fields[1]) == supervisor else ""
        if role:
            found.append(
                {
                    "role": role,
                    "pid": int(entry),
                    "started_s": boot_s + int(fields[19]) / _TICKS_PER_S,
                    "cpu_s": (int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
                    "rss_bytes": int(fields[21]) * _PAGE_BYTES,
                    "threads": int(fields[17]),
                }
            )
    return sorted(found, key=lambda process: process["pid"])


def role_of(words: Sequence[bytes]) -> str:
    """What a child of the supervisor is, by its command line; "" for what is none of the node's."""
    if any(word.endswith(b"/keeper/__main__.py") for word in words):
        return "keeper"
    if b"ondol.app" in words:
        return words[words.index(b"ondol.app") + 1].decode("ascii", "replace")
    return ""


def _uptime_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def _owner(pid: int) -> int:
    """Whose process it is."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return os.geteuid()
