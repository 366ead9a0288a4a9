"""What a call of each language's function comes to: its answer, its log, and how the platform tells of what went wrong.

Recorded from a node, and written so that it is the same in every run: ids, times and places in memory are replaced. The page
(docs/reference/runtimes.md) shows it, and a test records it again and compares.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

from bench.programs import Program
from ondol.testing.node import executable

#: Columns of the table, in their order.
SHAPES: Final = ("log of a call", "error raised", "timeout", "crash", "out of memory", "stream")
NONE: Final = "–"
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")
_PLATFORM: Final = re.compile(r"(INIT_START|START|END|REPORT)\b")


def deploy(lambda_client: Any, program: Program, name: str, *, handler: str = "", timeout_s: int = 20) -> None:
    """Make the function, and wait until it can be called."""
    lambda_client.create_function(
        FunctionName=name,
        Runtime=program.runtime,
        Handler=handler or program.handler,
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": executable(program.files())},
        MemorySize=program.memory_mib,
        Timeout=timeout_s,
    )
    waiter = lambda_client.get_waiter("function_active_v2")
    waiter.wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})


def record(lambda_client: Any, program: Program, name: str) -> dict[str, str]:
    """All of `SHAPES`, with functions that are made for it and removed again."""
    names = {"": name, "timeout": f"{name}-t", "stream": f"{name}-s"}
    try:
        deploy(lambda_client, program, names[""])
        deploy(lambda_client, program, names["timeout"], timeout_s=1)
        called = _call(lambda_client, names[""], 1)
        assert json.loads(called["payload"])["event"] == 1, called
        found = {"log of a call": _log(called["log"])}
        for what, event, where in (
            ("error raised", "raise", ""), ("timeout", "sleep", "timeout"), ("crash", "exit", ""), ("out of memory", "fill", ""),
        ):  # fmt: skip
            found[what] = _error(_call(lambda_client, names[where], event))
        found["stream"] = NONE
        if program.streams:
            deploy(lambda_client, program, names["stream"], handler=program.stream_handler)
            found["stream"] = _stream(lambda_client, names["stream"])
        return found
    finally:
        for each in names.values():
            try:
                lambda_client.delete_function(FunctionName=each)
            except lambda_client.exceptions.ResourceNotFoundException:
                continue


def _call(lambda_client: Any, name: str, event: object) -> dict[str, Any]:
    said = lambda_client.invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
    return {
        "failed": said.get("FunctionError"),
        "payload": said["Payload"].read(),
        "log": base64.b64decode(said["LogResult"]).decode(errors="replace"),
    }


def _log(text: str) -> str:
    """What the function wrote, between the platform's own lines."""
    lines = [line for line in text.splitlines() if line and not _PLATFORM.match(line)]
    return _plain(" ⏎ ".join(lines))


def _error(called: dict[str, Any]) -> str:
    """The error's type, its text, and which other keys its payload has."""
    assert called["failed"], called
    payload = json.loads(called["payload"])
    more = sorted(payload.keys() - {"errorType", "errorMessage"})
    also = f" (+ {', '.join(more)})" if more else ""
    return _plain(f"{payload['errorType']}: {payload['errorMessage']}{also}")


def _stream(lambda_client: Any, name: str) -> str:
    """What comes, and that it comes whole."""
    events = list(lambda_client.invoke_with_response_stream(FunctionName=name, Payload=b'"stream"')["EventStream"])
    assert events[-1] == {"InvokeComplete": {}}, events[-1]
    body = b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])
    return _plain(body.rpartition(bytes(8))[2].decode())


def _plain(text: str) -> str:
    """The same in every run, and in one cell of a table."""
    text = _TIME.sub("TIME", _ID.sub("ID", text))
    return text.strip().replace("\t", "⇥").replace("\n", " ⏎ ").replace("|", "\\|")
