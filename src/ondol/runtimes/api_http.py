"""The Runtime API of 2018-06-01: what a process asks for and answers over HTTP, by the socket of its own shell.

Routes, headers, states and texts are the documented ones; `api_states.py` has the order of things, `api_worker.py` the calls.
The socket says which environment asks; of what the request says, only its own invocation's answer is believed.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ondol.http.messages import BodyTooLarge, Disconnected, Reply, Request, Response
from ondol.model.limits import RESULT_BYTES_MAX
from ondol.runtime import Answer, Ending
from ondol.runtimes.api_states import NotAllowed, State
from ondol.runtimes.api_worker import Answering, ApiWorker, Given, Streamed, Take, too_large
from ondol.runtimes.metas import trailed

PREFIX: Final = "/2018-06-01/"
_NEXT: Final = f"{PREFIX}runtime/invocation/next"
_JSON: Final = (("Content-Type", "application/json"),)
_ERROR_TYPE: Final = "lambda-runtime-function-error-type"
_ERROR_BODY: Final = "lambda-runtime-function-error-body"
_MODE: Final = "lambda-runtime-function-response-mode"
_WITH_CAUSE: Final = "application/vnd.aws.lambda.error.cause+json"
_ANSWERED: Final = re.compile(r"POST runtime/invocation/([^/]+)/(response|error)$")
#: Of an error type that a process gives: it is shown to callers.
_TYPE_CHARS_MAX: Final = 256


async def serve(worker: ApiWorker, request: Request) -> Response:
    """One request of a process's."""
    replied: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    if prompt(worker, request, lambda response: None if replied.done() else replied.set_result(response)):
        return await replied
    asked = f"{request.method} {request.path.removeprefix(PREFIX)}"
    try:
        if asked == "POST runtime/init/error":
            return await _init_error(worker, request)
        answered = _ANSWERED.match(asked)
        return _not_found() if answered is None else await _answer(worker, request, *answered.groups())
    except NotAllowed as error:
        return refused(403, "InvalidStateTransition", str(error))


def prompt(worker: ApiWorker, request: Request, reply: Reply) -> bool:
    """The two requests of a usual call, answered from where they were read; False for all others.

    Who called hears of an answer first: the process, whose next question is no part of the call, is told two turns of the loop
    later that it was taken.
    """
    if request.method == "GET":
        if request.path != _NEXT:
            return False
        take: Take = lambda given: reply(_OVER if given is None else Response(200, headers_of(given), given.payload))  # noqa: E731
        request.left = partial(worker.forget, take)  # a call must not be given to who is gone
        try:
            worker.ask(take)
        except NotAllowed as error:
            reply(refused(403, "InvalidStateTransition", str(error)))
        return True
    body = request.body.buffered
    if body is None or len(body) > RESULT_BYTES_MAX or not worker.running or request.path != _response_path(worker.running):
        return False
    if request.header(_MODE) or worker.runtime.state is not State.RUNNING:
        return False
    worker.move(State.RESPONSE)
    worker.answer(Answer(ending=Ending.OK, body=body))
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, reply, _ACCEPTED)
    return True


def _response_path(invocation: str) -> str:
    return f"{PREFIX}runtime/invocation/{invocation}/response"


async def _answer(worker: ApiWorker, request: Request, invocation: str, kind: str) -> Response:
    answering = worker.answering(invocation)
    if answering is None:
        return refused(400, "InvalidRequestID", "Invalid request ID")
    return await (_response if kind == "response" else _error)(answering, request)


def refused(status: int, kind: str, message: str) -> Response:
    """An error in the API's form."""
    return Response(status, _JSON, json.dumps({"errorMessage": message, "errorType": kind}).encode() + b"\n")


def accepted() -> Response:
    return Response(202, _JSON, b'{"status":"OK"}\n')


#: Never changed.
_ACCEPTED: Final = accepted()
_OVER: Final = refused(500, "InternalServerError", "Internal Server Error")


def _not_found() -> Response:
    return Response(404, (("Content-Type", "text/plain; charset=utf-8"),), b"404 page not found\n")


def headers_of(given: Given) -> list[tuple[str, str]]:
    """What comes with an invocation; what there is none of is left out."""
    meta = given.meta
    found = (
        ("Lambda-Runtime-Aws-Request-Id", given.id),
        ("Lambda-Runtime-Deadline-Ms", str(meta.get("deadline_ms") or "")),
        ("Lambda-Runtime-Invoked-Function-Arn", str(meta.get("arn") or "")),
        ("Lambda-Runtime-Trace-Id", str(meta.get("trace") or "")),
        ("Lambda-Runtime-Client-Context", _as_json(meta.get("client_context"))),
        ("Lambda-Runtime-Cognito-Identity", _as_json(meta.get("identity"))),
        ("Lambda-Runtime-Aws-Tenant-Id", str(meta.get("tenant") or "")),
    )
    return [*_JSON, *((name, _printable(value)) for name, value in found if value)]


def _as_json(value: Any) -> str:
    """What callers sent as JSON, as a header can hold it: in one line, and in ASCII."""
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
    return json.dumps(value, separators=(",", ":"))


def _printable(value: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in value)


async def _response(answering: Answering, request: Request) -> Response:
    mode = request.header(_MODE)
    answering.move(State.RESPONSE)
    if mode == "streaming":
        return await _streamed(answering, request)
    if mode:
        answering.answer(_failure("Runtime.InvalidResponseModeHeader", ""))
        return refused(400, "InvalidFunctionResponseMode", "Invalid function response mode")
    try:
        body = await request.body.read(RESULT_BYTES_MAX)
    except BodyTooLarge:
        answering.answer(too_large())
        message = f"Exceeded maximum allowed payload size ({RESULT_BYTES_MAX} bytes)."
        return refused(413, "RequestEntityTooLarge", message)
    except Disconnected:
        answering.answer(_failure("Runtime.TruncatedResponse", "Response truncated"))
        return refused(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
    answering.answer(Answer(ending=Ending.OK, body=body))
    return accepted()


async def _streamed(answering: Answering, request: Request) -> Response:
    """The answer goes on while it is read; this request ends with it."""
    body = request.body

    def check() -> None:
        trailers = dict(body.trailers)
        if _ERROR_TYPE in trailers:
            raise trailed(_type(trailers[_ERROR_TYPE]), trailers.get(_ERROR_BODY, ""))

    stream = Streamed(body.chunks(), check)
    answering.answer(Answer(ending=Ending.OK, meta={"content_type": request.header("content-type")}, body=stream))
    await stream.over
    answering.streamed()
    return accepted()


async def _error(answering: Answering, request: Request) -> Response:
    answering.move(State.ERROR_RESPONSE)
    try:
        body = await request.body.read(RESULT_BYTES_MAX)
    except BodyTooLarge:
        answering.answer(too_large())
        return refused(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({RESULT_BYTES_MAX} bytes).")
    except Disconnected:
        answering.answer(_failure("Runtime.TruncatedResponse", "Response truncated"))
        return refused(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
    if request.header("content-type") == _WITH_CAUSE:
        body = _without_cause(body)
    meta = {"error_type": _type(request.header(_ERROR_TYPE))}
    answering.answer(Answer(ending=Ending.ERROR, meta=meta, body=body or b"null"))
    return accepted()


async def _init_error(worker: ApiWorker, request: Request) -> Response:
    try:
        body = await request.body.read(RESULT_BYTES_MAX)
    except (BodyTooLarge, Disconnected):
        body = b"null"
    worker.init_failed(body or b"null", _type(request.header(_ERROR_TYPE)))
    return accepted()


def _type(given: str) -> str:
    """An error type as it may be shown: that of a runtime or a function, by its form."""
    if given.startswith(("Runtime.", "Function.")) and len(given) <= _TYPE_CHARS_MAX:
        return _printable(given)
    return "Function.Unknown" if given.startswith("Function.") else "Runtime.Unknown"


def _without_cause(body: bytes) -> bytes:
    """An error with a cause for traces beside it: what callers get of that."""
    try:
        sent = json.loads(body)
        kept = {name: sent[name] for name in ("errorMessage", "errorType", "stackTrace") if name in sent}
    except (ValueError, TypeError, RecursionError):
        return b'"Invalid error body"'
    return json.dumps(kept).encode()


def _failure(kind: str, message: str) -> Answer:
    """The platform's word in the process's place."""
    said: Mapping[str, str] = {"errorType": kind, **({"errorMessage": message} if message else {})}
    return Answer(ending=Ending.ERROR, meta={"error_type": kind}, body=json.dumps(said).encode())
