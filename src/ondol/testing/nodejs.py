"""Driving a Node.js guest over its wire, without a node: what tests of the guest itself need."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ondol_guest
from ondol.runtime import Answer, BrokeOff, Call, Ending, LogSink
from ondol.runtimes.link import Link
from ondol_guest import frames
from ondol_guest.executing import WIRE_FD

#: The program of a Node.js guest.
START = Path(ondol_guest.__file__).parent / "node" / "start.js"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:hello"
WAIT_S = 60.0

#: One event: its text, and the time in ms or None for "now".
Line = tuple[str, int | None]


@dataclass
class Seen:
    """What one guest came to."""

    load_log: list[Line] = field(default_factory=list)
    load_error: Any = None
    answers: list[Answer] = field(default_factory=list)  #: streamed bodies as bytes
    logs: list[list[Line]] = field(default_factory=list)  #: of each answer, and of what was left unanswered
    status: int | None = None  #: how the process ended, when it did by itself
    cut: str = ""  #: what the last body failed with, when it ended before it was whole


class _Child:
    """`ondol.sandbox.Child` of a process that we started."""

    def __init__(self, process: asyncio.subprocess.Process, wire: int, log: int) -> None:
        self.pid = process.pid
        self.wire = wire
        self.log = log
        self.told = b""
        self._process = process

    async def wait(self) -> int:
        return await self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


def variables(**more: str) -> dict[str, str]:
    """The environment of a function called hello."""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": "hello",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/hello",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123",
        "AWS_REGION": "eu-west-1",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": os.defpath,
        **more,
    }


def meta(request: str = "5f3d1b1e-0000-4000-8000-000000000000", **more: object) -> bytes:
    """What the contract's host half says of a call."""
    told = {"id": request, "deadline_ms": int(time.time() * 1000) + 60_000, "arn": ARN, **more}
    return json.dumps(told).encode()


async def run(
    node: str,
    tree: Path,
    handler: str,
    calls: Sequence[tuple[bytes, bytes]],
    *,
    runtime: str = "nodejs20.x",
    environment: Mapping[str, str] | None = None,
) -> Seen:
    """Run `calls`, each (payload, meta), one after the other; ends with the first that was not answered."""
    seen = Seen()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log, log_inside = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(node, "--expose-gc", "--max-http-header-size=81920", str(START)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log_inside,
        stderr=log_inside,
        pass_fds=[WIRE_FD],
        preexec_fn=functools.partial(os.dup2, theirs.fileno(), WIRE_FD),
        env={"_ONDOL_WIRE": str(WIRE_FD)},
    )
    theirs.close()
    os.close(log_inside)
    settings = {
        "handler": handler,
        "runtime": runtime,
        "cwd": str(tree),
        "variables": dict(variables() if environment is None else environment),
    }
    init = frames.pack(frames.INIT, 0, json.dumps(settings).encode())

    def between_calls(text: str, at_ms: int | None) -> None:
        if not seen.answers:
            seen.load_log.append((text, at_ms))

    link = await Link.open(_Child(process, ours.detach(), log), init, between_calls)
    try:
        await asyncio.wait_for(_calls(link, calls, seen), WAIT_S)
    finally:
        link.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
    return seen


async def _calls(link: Link, calls: Sequence[tuple[bytes, bytes]], seen: Seen) -> None:
    for payload, told in calls:
        lines: list[Line] = []
        answer = await link.call(Call(meta=told, payload=payload), _into(lines))
        if isinstance(answer.body, AsyncIterator):
            answer = await _whole(answer, seen)
        if answer.ending is Ending.INIT_ERROR:
            assert isinstance(answer.body, bytes)
            seen.load_error = json.loads(answer.body)
            seen.status = await link.ended()
            return
        seen.logs.append(lines)
        if answer.ending is Ending.DEAD:
            seen.status = await link.ended()
            return
        seen.answers.append(answer)


def _into(lines: list[Line]) -> LogSink:
    return lambda text, at_ms: lines.append((text, at_ms))


async def _whole(answer: Answer, seen: Seen) -> Answer:
    """The answer with its streamed body read to the end."""
    assert isinstance(answer.body, AsyncIterator)
    body = b""
    try:
        async for chunk in answer.body:
            body += chunk
    except BrokeOff as failure:
        seen.cut = failure.kind
    return Answer(ending=answer.ending, meta=answer.meta, body=body, init_ms=answer.init_ms)
