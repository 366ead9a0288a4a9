"""The Extensions API of 2020-01-01, and where extensions subscribe to telemetry: the documented routes, headers and texts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from ondol.http.messages import BodyTooLarge, Disconnected, Request, Response
from ondol.runtimes.api_http import accepted, refused
from ondol.runtimes.company import Company, Extension
from ondol.runtimes.company_errors import Refusal
from ondol.runtimes.extension_states import OutOfTurn, Stage
from ondol.runtimes.telemetry_wanted import SCHEMAS, Api, wanted

PREFIX: Final = "/2020-01-01/extension/"
TELEMETRY: Final = "/2022-07-01/telemetry"
LOGS: Final = "/2020-08-15/logs"
#: What an extension sends says which events it wants, or where to: a few hundred bytes.
BODY_BYTES_MAX: Final = 64 * 1024
#: Of a header that names an error; more is cut off.
ERROR_TYPE_CHARS_MAX: Final = 256

_IDENTIFIER: Final = "lambda-extension-identifier"
_ERROR_TYPE: Final = "lambda-extension-function-error-type"


def ours(path: str) -> bool:
    """Whether this API has the path."""
    return path.startswith(PREFIX) or path.rstrip("/") in (TELEMETRY, LOGS)


async def serve(company: Company, request: Request) -> Response:
    """One request of an extension's."""
    asked = f"{request.method} {request.path.rstrip('/')}".replace(PREFIX, "")
    operation = _OPERATIONS.get(asked)
    if operation is None or (company.about.side_by_side and asked == f"PUT {LOGS}"):  # which is of before such calls
        return Response(404, (("Content-Type", "text/plain; charset=utf-8"),), b"404 page not found\n")
    try:
        return await operation(company, request)
    except Refusal as refusal:
        return refused(400 if refusal.kind == "ValidationError" else 403, refusal.kind, str(refusal))
    except OutOfTurn as error:
        return refused(403, "Extension.InvalidExtensionState", str(error))
    except BodyTooLarge:
        return refused(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({BODY_BYTES_MAX} bytes).")
    except Disconnected:
        return refused(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")


def _extension(company: Company, request: Request) -> Extension:
    return company.find(request.header(_IDENTIFIER))


async def _register(company: Company, request: Request) -> Response:
    name = request.header("lambda-extension-name")
    body = await request.body.read(BODY_BYTES_MAX)
    if not name:
        raise Refusal("Extension.InvalidExtensionName", "Empty extension name")
    extension = company.register(name, events_of(body))
    about = company.about
    said = {"functionName": about.name, "functionVersion": about.version, "handler": about.handler}
    if "accountId" in [word.strip() for word in request.header("lambda-extension-accept-feature").split(",")]:
        said["accountId"] = about.account
    headers = (("Content-Type", "application/json"), ("Lambda-Extension-Identifier", extension.id))
    return Response(200, headers, json.dumps(said).encode())


def events_of(body: bytes) -> list[str]:
    """The events that a registration asks for. Raises Refusal."""
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Refusal("InvalidRequestFormat", str(error)[:256]) from None
    if not isinstance(said, dict):
        raise Refusal("InvalidRequestFormat", 'a registration is an object with the list "events"')
    if said.get("configurationKeys"):
        raise Refusal("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead")
    events = said.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise Refusal("InvalidRequestFormat", '"events" is a list of the names of events')
    return events


async def _next(company: Company, request: Request) -> Response:
    event = await company.next(_extension(company, request))
    if event is None:
        return refused(500, "InternalServerError", "Internal Server Error")
    headers = (("Content-Type", "application/json"), ("Lambda-Extension-Event-Identifier", str(uuid.uuid4())))
    return Response(200, headers, json.dumps(event).encode())


async def _error(company: Company, request: Request, to: Stage) -> Response:
    extension = _extension(company, request)
    await request.body.read(BODY_BYTES_MAX)
    kind = request.header(_ERROR_TYPE)
    if not kind:
        raise Refusal("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
    company.reported(extension, to, "".join(char if " " <= char <= "~" else "?" for char in kind[:ERROR_TYPE_CHARS_MAX]))
    return accepted()


async def _subscribe(company: Company, request: Request, api: Api) -> Response:
    extension = _extension(company, request)
    schemas = SCHEMAS[api][-1:] if company.about.side_by_side else SCHEMAS[api]
    await company.subscribe(extension, wanted(await request.body.read(BODY_BYTES_MAX), api, schemas))
    return Response(200, (("Content-Type", "text/plain; charset=utf-8"),), b'"OK"')


_OPERATIONS: Final[Mapping[str, Callable[[Company, Request], Awaitable[Response]]]] = {
    "POST register": _register,
    "GET event/next": _next,
    "POST init/error": partial(_error, to=Stage.INIT_ERROR),
    "POST exit/error": partial(_error, to=Stage.EXIT_ERROR),
    f"PUT {TELEMETRY}": partial(_subscribe, api=Api.TELEMETRY),
    f"PUT {LOGS}": partial(_subscribe, api=Api.LOGS),
}
