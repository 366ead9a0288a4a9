"""`ondol invoke` and `ondol logs`: call a function, and read what it wrote."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.node import Node
from ondol.cli.shape import Example, Exit, Failure, as_json, find_node, note, print_json
from ondol.model import limits

FOLLOW_S: Final = 0.5
#: While following, events that turn up this late are still shown, once.
LATE_MS: Final = 10_000
SHOWN_MAX: Final = 50_000


def payload_of(data: str | None) -> bytes:
    """What `--data` means: JSON, @FILE, or - for standard input. Raises UsageError when it is no JSON."""
    if data is None:
        return b"{}"
    if data == "-":
        raw = sys.stdin.buffer.read(limits.SYNC_PAYLOAD_BYTES_MAX + 1)
    elif data.startswith("@"):
        try:
            with Path(data[1:]).open("rb") as file:
                raw = file.read(limits.SYNC_PAYLOAD_BYTES_MAX + 1)
        except OSError as error:
            raise click.UsageError(f"--data: {data[1:]} cannot be read: {error.strerror}") from None
    else:
        raw = data.encode("utf-8", "surrogateescape")
    return raw


def checked(raw: bytes, *, asynchronous: bool) -> bytes:
    """Refuse what the node would refuse, with a better reason."""
    most = limits.DEFERRED_PAYLOAD_BYTES_MAX if asynchronous else limits.SYNC_PAYLOAD_BYTES_MAX
    if len(raw) > most:
        raise click.UsageError(f"--data: the payload has more than {most:,} bytes, the most that a call takes")
    try:
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--data: not valid JSON: {error}") from None
    return raw


def call(
    where: Node, name: str, payload: bytes, *, qualifier: str | None, asynchronous: bool, tail: bool, api: Any = None
) -> dict[str, Any]:
    """Invoke, and what is worth knowing of the answer."""
    api = api or client.aws(where, "lambda")
    arguments: dict[str, Any] = {"FunctionName": name, "Payload": payload}
    arguments["InvocationType"] = "Event" if asynchronous else "RequestResponse"
    if qualifier:
        arguments["Qualifier"] = qualifier
    if tail and not asynchronous:
        arguments["LogType"] = "Tail"
    began_s = time.perf_counter()
    answer = client.ask(where, api.invoke, **arguments)
    body = answer["Payload"].read()
    return {
        "status": answer["StatusCode"],
        "payload": body,
        "error": answer.get("FunctionError"),
        "version": answer.get("ExecutedVersion"),
        "request_id": answer["ResponseMetadata"].get("RequestId"),
        "log": base64.b64decode(answer.get("LogResult") or "").decode(errors="replace"),
        "duration_ms": round((time.perf_counter() - began_s) * 1000, 2),
    }


@click.command(
    "invoke",
    cls=Example,
    examples=(
        "ondol invoke hello",
        'ondol invoke hello --data \'{"name": "Ada"}\' --tail',
        "ondol invoke hello --data @event.json --qualifier live",
        "echo '{}' | ondol invoke hello --data - --async",
    ),
)
@click.argument("name")
@click.option("--data", metavar="JSON|@FILE|-", help="The event: JSON, a file's, or standard input's.  [default: {}]")
@click.option("--qualifier", metavar="Q", help="A version's number or an alias.  [default: the latest code]")
@click.option("--async", "asynchronous", is_flag=True, help="Hand the event over and do not wait for it.")
@click.option("--tail", is_flag=True, help="Print the end of the call's log on standard error.")
@find_node
@as_json
def invoke(name: str, data: str | None, node: str | None, **how: Any) -> None:
    """Call the function NAME and print its answer.

    Leaves with 1 when the function failed; its error is printed like any other answer.
    """
    as_json_ = how.pop("json_")
    raw = payload_of(data)
    where = nodes.find(node)
    try:
        checked(raw, asynchronous=how["asynchronous"])
        answer = call(where, name, raw, **how)
    except Failure as failure:
        if client.is_missing(failure) and not how["asynchronous"] and _is_web(where, name):
            _invoke_web(where, name, raw if data is not None else None, how["qualifier"])
            return
        raise
    _show(answer, as_json_=as_json_, tail=how["tail"], name=name)
    if answer["error"]:
        sys.exit(Exit.FUNCTION_FAILED)


def _show(answer: dict[str, Any], *, as_json_: bool, tail: bool, name: str) -> None:
    body = answer["payload"].decode(errors="replace")
    if as_json_:
        print_json({**answer, "payload": _loaded(body)})
        return
    if tail:
        note(answer["log"].rstrip("\n"))
    if answer["status"] == 202:
        note(f"accepted: request {answer['request_id']}")
    elif body:
        click.echo(body)
    if answer["error"]:
        note(f"ondol: {name} failed ({answer['error']}): see 'ondol logs {name}'.")


def _loaded(body: str) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


def _is_web(where: Node, name: str) -> bool:
    try:
        # A web application or a command that serves: called by requests, both.
        return client.Native(where).function(name).get("contract") != "aws"
    except Failure:
        return False


def _invoke_web(where: Node, name: str, payload: bytes | None, qualifier: str | None) -> None:
    """A web function is called with a request: GET, or POST when there is an event."""
    path = f"/fn/{name}" + (f":{qualifier}" if qualifier else "") + "/"
    headers = {"x-ondol-key": f"{where.access_key_id}:{where.secret}", "content-type": "application/json"}
    method = "GET" if payload is None else "POST"
    status, _, body = client.Native(where).fetch(method, path, payload or b"", headers)
    note(f"{method} {path} answered {status}")
    click.echo(body, nl=bool(body) and not body.endswith(b"\n"))
    if status >= 400:
        sys.exit(Exit.FUNCTION_FAILED)


# Logs ---------------------------------------------------------------------------------------------------------------------


def _since_ms(ctx: click.Context, parameter: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhd])", value)
    if not found:
        raise click.BadParameter("expected a number and s, m, h or d, such as 15m", ctx, parameter)
    return int(found[1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]


def group_of(where: Node, name: str) -> str:
    """The log group that a function's contract writes to."""
    return f"/ondol/{name}" if _is_web(where, name) else f"/aws/lambda/{name}"


def events(where: Node, group: str, since_ms: int) -> Iterator[dict[str, Any]]:
    """What was written since then, in order. Nothing when there is no such group: the function never ran."""
    api = client.aws(where, "logs")
    yield from _pages(where, api, group, since_ms)


def _pages(where: Node, api: Any, group: str, since_ms: int) -> Iterator[dict[str, Any]]:
    arguments: dict[str, Any] = {"logGroupName": group, "startTime": since_ms}
    while True:
        try:
            page = client.ask(where, api.filter_log_events, **arguments)
        except Failure as failure:
            if client.is_missing(failure):
                return
            raise
        yield from page.get("events", ())
        if not page.get("nextToken"):
            return
        arguments["nextToken"] = page["nextToken"]


def follow(where: Node, group: str, since_ms: int) -> Iterator[dict[str, Any]]:
    """`events`, and then whatever comes, until interrupted."""
    api = client.aws(where, "logs")
    shown: OrderedDict[str, None] = OrderedDict()
    while True:
        for event in _pages(where, api, group, since_ms):
            if event["eventId"] not in shown:
                shown[event["eventId"]] = None
                yield event
            since_ms = max(since_ms, event["timestamp"] - LATE_MS)
        while len(shown) > SHOWN_MAX:
            shown.popitem(last=False)
        time.sleep(FOLLOW_S)


@click.command(
    "logs",
    cls=Example,
    examples=("ondol logs hello", "ondol logs hello --follow", "ondol logs hello --since 2d --json"),
)
@click.argument("name")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on printing what comes, until Ctrl-C.")
@click.option(
    "--since", metavar="AGE", default="1h", show_default=True, callback=_since_ms, help="How far back: 30s, 15m, 2h, 7d."
)
@find_node
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per event, for scripts.")
def logs(name: str, following: bool, since: int, node: str | None, json_: bool) -> None:
    """Print what the function NAME, and the platform about it, wrote."""
    where = nodes.find(node)
    group = group_of(where, name)
    start_ms = max(0, int(time.time() * 1000) - since)
    count = 0
    for event in (follow if following else events)(where, group, start_ms):
        count += 1
        if json_:
            kept = {"at_ms": event["timestamp"], "stream": event["logStreamName"], "message": event["message"]}
            click.echo(json.dumps(kept, ensure_ascii=False))
        else:
            click.echo(event["message"].rstrip("\n"))
    if not count and not json_:
        client.Native(where).function(name)  # says so when there is no such function
        note(f"{name} wrote nothing in that time: --since looks further back.")
