"""`ondol invoke`: call a function."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.node import Node
from ondol.cli.shape import Example, Exit, Failure, as_json, find_node, foreign, note, print_json
from ondol.model import limits


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
    where: Node,
    name: str,
    payload: bytes,
    *,
    qualifier: str | None,
    asynchronous: bool,
    tail: bool,
    tenant: str | None = None,
    api: Any = None,
) -> dict[str, Any]:
    """Invoke, and what is worth knowing of the answer."""
    api = api or client.aws(where, "lambda")
    arguments: dict[str, Any] = {"FunctionName": name, "Payload": payload}
    arguments["InvocationType"] = "Event" if asynchronous else "RequestResponse"
    if qualifier:
        arguments["Qualifier"] = qualifier
    if tenant:
        arguments["TenantId"] = tenant
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
@click.option("--tenant", metavar="ID", help="Whose call it is, for functions that keep their tenants apart.")
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
        if client.is_missing(failure) and _is_web(where, name):
            if how["asynchronous"]:
                raise click.UsageError(f"--async: {name} is called by requests, which nobody can hand over") from None
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
        note(foreign(answer["log"].rstrip("\n"), err=True))
    if answer["status"] == 202:
        note(f"accepted: request {answer['request_id']}")
    elif body:
        click.echo(foreign(body))
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
    status, body = request(where, name, payload, qualifier)
    click.echo(body, nl=bool(body) and not body.endswith(b"\n"))
    if status >= 400:
        sys.exit(Exit.FUNCTION_FAILED)


def request(where: Node, name: str, payload: bytes | None, qualifier: str | None) -> tuple[int, bytes]:
    """A web function is called with a request: GET, or POST when there is an event. Notes what it is; (status, body)."""
    path = f"/fn/{name}" + (f":{qualifier}" if qualifier else "") + "/"
    headers = {"x-ondol-key": f"{where.access_key_id}:{where.secret}", "content-type": "application/json"}
    method = "GET" if payload is None else "POST"
    status, _, body = client.Native(where).fetch(method, path, payload or b"", headers)
    note(f"{method} {path} answered {status}")
    return status, body
