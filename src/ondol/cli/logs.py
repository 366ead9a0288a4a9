"""`ondol logs`: what a function, and the platform about it, wrote; up to now, or as it comes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.node import Node
from ondol.cli.shape import Example, Failure, find_node, foreign, note

FOLLOW_S: Final = 0.5
#: While following, events that turn up this late are still shown, once.
LATE_MS: Final = 5_000

#: From the most talkative to the least.
LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_OTHER_NAMES: Final = {"WARNING": "WARN", "CRITICAL": "FATAL", "NOTSET": "TRACE"}
#: How runtimes mark text: "[ERROR] …" and "TIME\tREQUEST\tERROR\t…"; and how the platform says what went wrong.
_MARKS: Final = re.compile(r"\[([A-Z]+)\]|\S+Z\t\S+\t([A-Z]+)\t")
_WRONG: Final = re.compile(r"\S+Z \S+ Task timed out after |RequestId: \S+ Error: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for."""

    group: str
    since_ms: int
    pattern: str = ""
    #: Only streams that match; for groups that several functions share.
    streams: re.Pattern[str] | None = None


def wanted(where: Node, name: str, since_ms: int, pattern: str) -> Wanted:
    """Where the function's contract, or its configuration, has it write. One that is gone may have left something."""
    own = Wanted(group=f"/aws/lambda/{name}", since_ms=since_ms, pattern=pattern)
    try:
        if client.Native(where).function(name).get("contract") != "aws":
            return Wanted(group=f"/ondol/{name}", since_ms=since_ms, pattern=pattern)
        told = client.ask(where, client.aws(where, "lambda").get_function_configuration, FunctionName=name)
    except Failure as failure:
        if client.is_missing(failure):
            return own
        raise
    group = (told.get("LoggingConfig") or {}).get("LogGroup") or own.group
    if group == own.group:
        return own
    shared = re.compile(rf"\d+/\d+/\d+/{re.escape(name)}\[")
    return Wanted(group=group, since_ms=since_ms, pattern=pattern, streams=shared)


def events(where: Node, asked: Wanted) -> Iterator[dict[str, Any]]:
    """What was written since then, in order. Nothing when there is no such group: the function never ran."""
    yield from _pages(where, client.aws(where, "logs"), asked, asked.since_ms)


def follow(where: Node, asked: Wanted) -> Iterator[dict[str, Any]]:
    """`events`, and then whatever comes, until interrupted.

    Asked again and again rather than tailed live: nothing is sampled, and a node that restarts its desk loses nobody.
    """
    api = client.aws(where, "logs")
    #: What may come again, because it is asked for again: by id, with its time.
    shown: dict[str, int] = {}
    since_ms = newest_ms = asked.since_ms
    while True:
        for event in _pages(where, api, asked, since_ms):
            if event["eventId"] not in shown:
                shown[event["eventId"]] = event["timestamp"]
                newest_ms = max(newest_ms, event["timestamp"])
                yield event
        since_ms = max(since_ms, newest_ms - LATE_MS)
        shown = {identity: at_ms for identity, at_ms in shown.items() if at_ms >= since_ms}
        time.sleep(FOLLOW_S)


def _pages(where: Node, api: Any, asked: Wanted, since_ms: int) -> Iterator[dict[str, Any]]:
    arguments: dict[str, Any] = {"logGroupName": asked.group, "startTime": since_ms}
    if asked.pattern:
        arguments["filterPattern"] = asked.pattern
    while True:
        try:
            page = client.ask(where, api.filter_log_events, **arguments)
        except Failure as failure:
            if client.is_missing(failure):
                return
            raise
        for event in page.get("events", ()):
            if asked.streams is None or asked.streams.match(event["logStreamName"]):
                yield event
        if not page.get("nextToken"):
            return
        arguments["nextToken"] = page["nextToken"]


def level_of(message: str) -> str:
    """The level that an event has, as one of LEVELS: its own word for it, else what the platform's lines mean, else INFO."""
    if message.startswith("{"):
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            event = {}
        if str(event.get("type", "")).startswith("platform."):
            record = event.get("record")
            return "INFO" if not isinstance(record, dict) or record.get("status", "success") == "success" else "WARN"
        return _known(str(event.get("level", "")))
    if _WRONG.match(message):
        return "ERROR"
    found = _MARKS.match(message)
    return _known(found[1] or found[2]) if found else "INFO"


def _known(word: str) -> str:
    word = word.upper()
    word = _OTHER_NAMES.get(word, word)
    return word if word in LEVELS else "INFO"


def moment_ms(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A moment, in milliseconds since the epoch: so long ago, or a time (of this machine's zone where it names none).

    The callback of an option; None where it is not given. Raises click.BadParameter.
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", value)
    if found:
        ago_s = int(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]]
        return max(0, int((time.time() - ago_s) * 1000))
    try:
        return max(0, int(datetime.fromisoformat(value).timestamp() * 1000))
    except (ValueError, OverflowError):
        example = "an age such as 15m (s, m, h or d) or a time such as 2026-01-31T08:30"
        raise click.BadParameter(f"expected {example}", ctx, parameter) from None


@click.command(
    "logs",
    cls=Example,
    examples=(
        "ondol logs hello",
        "ondol logs hello --follow --level warn",
        "ondol logs hello --since 2d --filter '{ $.order.total > 100 }'",
        "ondol logs hello --since 2026-01-31T08:30Z --filter '\"timed out\"' --json",
    ),
)
@click.argument("name")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on printing what comes, until Ctrl-C.")
@click.option(
    "--since",
    "since_ms",
    metavar="AGE|TIME",
    default="1h",
    show_default=True,
    callback=moment_ms,
    help="How far back: 30s, 15m, 2h, 7d, or a time as ISO 8601 writes it.",
)
@click.option(
    "--filter",
    "pattern",
    metavar="PATTERN",
    default="",
    help="Only what matches: CloudWatch Logs' filter patterns, all forms.  [default: everything]",
)
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    metavar="LEVEL",
    help="Only events of this level or a higher one: trace, debug, info, warn, error, fatal.  [default: everything]",
)
@find_node
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per event, for scripts.")
def logs(name: str, *, following: bool, since_ms: int, pattern: str, level: str | None, node: str | None, json_: bool) -> None:
    """Print what the function NAME, and the platform about it, wrote.

    An event without a level of its own counts as info.
    """
    where = nodes.find(node)
    asked = wanted(where, name, since_ms, pattern)
    if following:
        client.Native(where).function(name)  # nothing comes of one that is not there: nobody waits for a name misspelt
    least = LEVELS.index(level) if level else 0
    count = 0
    for event in (follow if following else events)(where, asked):
        its = level_of(event["message"])
        if LEVELS.index(its) < least:
            continue
        count += 1
        _print(event, its, json_=json_)
    if not count and not json_:
        client.Native(where).function(name)  # says so when there is no such function
        note(f"{name} wrote nothing {'like that ' if pattern or level else ''}in that time: --since looks further back.")


def _print(event: dict[str, Any], level: str, *, json_: bool) -> None:
    if json_:
        kept = {"at_ms": event["timestamp"], "stream": event["logStreamName"], "level": level, "message": event["message"]}
        click.echo(json.dumps(kept, ensure_ascii=False))
    else:
        click.echo(foreign(event["message"].rstrip("\n")))
