"""The platform's errors as Lambda's: one table, and how an error body is written.

Knows the codes' statuses and spellings by itself, so that the hot path needs no service model; a test compares with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Response
from ondol.model import errors
from ondol.model.errors import OndolError

USER: Mapping[str, Any] = {"Type": "User"}
SERVER: Mapping[str, Any] = {"Type": "Server"}
#: Throttled.reason -> ThrottleReason.
_REASONS = {
    "account": "ConcurrentInvocationLimitExceeded",
    "function": "ReservedFunctionConcurrentInvocationLimitExceeded",
    "line": "ConcurrentInvocationLimitExceeded",
    "rate": "FunctionInvocationRateLimitExceeded",
    "function rate": "ReservedFunctionInvocationRateLimitExceeded",
    "account rate": "CallerRateLimitExceeded",
}


Translator = Callable[[Any, str], ServiceError]


def translate(error: OndolError, resource: str) -> ServiceError:
    """`error`, met while serving `resource` (an ARN), as the service says it."""
    for kind in type(error).__mro__:
        translator = TABLE.get(kind)
        if translator is not None:
            return translator(error, resource)
    return internal()


def because_none(kind: str, action: str) -> str:
    """Why not, where nothing speaks of it. `kind`: what would have to allow it ("session policy", "resource-based policy")."""
    return f"because no {kind} allows the {action} action"


def not_authorized(who: str, action: str, resource: str = "", why: str = "") -> ServiceError:
    """As IAM puts it. `who`: the caller's ARN; `why`: "" where no identity-based policy allows it."""
    where = f" on resource: {resource}" if resource else ""
    why = why or because_none("identity-based policy", action)
    message = f"User: {who} is not authorized to perform: {action}{where} {why}"
    return ServiceError("AccessDeniedException", message, status=403, message_key="Message")


def not_authorized_plainly(who: str, action: str, resource: str) -> ServiceError:
    """As STS and PassRole put it: whose policy is missing is not said."""
    message = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    return ServiceError("AccessDeniedException", message, status=403, message_key="Message")


def internal() -> ServiceError:
    """What a client is told about a mistake of ours; the node's log has the rest."""
    message = "An error occurred inside Ondol. The node's log names it by this request's id."
    return ServiceError("ServiceException", message, status=500, extra=SERVER, message_key="Message")


def render_json(error: ServiceError, *, status: int, code: str, key: str, request_id: str) -> Response:
    """An error of REST-JSON."""
    headers = [
        ("Content-Type", "application/json"),
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", code),
        *error.headers,
    ]
    return Response(status, headers, msgspec.json.encode({**error.extra, key: error.message}))


def render_known(error: ServiceError, request_id: str) -> Response:
    """As `render_json`, for errors that carry their status (all that this module and the signer's make do)."""
    status = error.status or STATUSES.get(error.code, 400)
    key = error.message_key or ("Message" if error.code in CAPITALISED else "message")
    return render_json(error, status=status, code=error.code, key=key, request_id=request_id)


# The table ------------------------------------------------------------------------------------------------------------
def _user(code: str) -> Translator:
    return lambda error, _resource: ServiceError(code, str(error), status=STATUSES[code], extra=USER)


def _server(code: str) -> Translator:
    return lambda error, _resource: ServiceError(code, str(error), status=STATUSES[code], extra=SERVER)


def _not_found(error: errors.NotFound, resource: str) -> ServiceError:
    if error.kind == "published version":
        text = "The function has no published versions available. Publish $LATEST.PUBLISHED, or name a version."
        return ServiceError("NoPublishedVersionException", text, status=400, extra=USER)
    known = error.kind in ("function", "version", "alias", "revision")
    message = f"Function not found: {resource}" if known else str(error)
    return ServiceError("ResourceNotFoundException", message, status=404, extra=USER)


def _denied(error: errors.Denied, resource: str) -> ServiceError:
    action = error.action or "this action"
    message = f"Not authorized to perform: {action} on resource: {resource}. {error}"
    return ServiceError("AccessDeniedException", message, status=403)


def _too_large(error: errors.TooLarge, _resource: str) -> ServiceError:
    return ServiceError("RequestEntityTooLargeException", str(error), status=413)


def _throttled(error: errors.Throttled, _resource: str) -> ServiceError:
    reason = _REASONS.get(error.reason, "ConcurrentInvocationLimitExceeded")
    wait_s = max(1, round(error.retry_after_s))
    return ServiceError(
        "TooManyRequestsException",
        "Rate Exceeded.",
        status=429,
        extra={"Reason": reason, "Type": "User"},
        headers=(("Retry-After", str(wait_s)),),
    )


def _not_built(error: errors.NotBuilt, _resource: str) -> ServiceError:
    return ServiceError("NotImplemented", str(error), status=501)


#: Code -> status, for the codes that this module makes.
STATUSES: Mapping[str, int] = {
    "InvalidRequestContentException": 400,
    "InvalidParameterValueException": 400,
    "ValidationException": 400,
    "ResourceNotFoundException": 404,
    "ResourceConflictException": 409,
    "PreconditionFailedException": 412,
    "AccessDeniedException": 403,
    "RequestEntityTooLargeException": 413,
    "TooManyRequestsException": 429,
    "InvalidRuntimeException": 502,
    "NoPublishedVersionException": 400,
    "ServiceException": 500,
    "NotImplemented": 501,
}
#: Codes whose body spells "Message".
CAPITALISED = frozenset({"ResourceNotFoundException", "InvalidRuntimeException", "ServiceException", "AccessDeniedException"})

TABLE: Mapping[type, Translator] = {
    errors.InvalidPayload: _user("InvalidRequestContentException"),
    errors.InvalidSetting: _user("InvalidParameterValueException"),
    errors.InvalidCode: _user("InvalidParameterValueException"),
    errors.Invalid: _user("InvalidParameterValueException"),
    errors.NotFound: _not_found,
    errors.AlreadyExists: _user("ResourceConflictException"),
    errors.RevisionMismatch: _user("PreconditionFailedException"),
    errors.InUse: _user("ResourceConflictException"),
    errors.Busy: _user("ResourceConflictException"),
    errors.Conflict: _user("ResourceConflictException"),
    errors.Denied: _denied,
    errors.TooLarge: _too_large,
    errors.Throttled: _throttled,
    errors.RuntimeMissing: _server("InvalidRuntimeException"),
    errors.NotBuilt: _not_built,
    errors.StartFailed: _server("ServiceException"),
    errors.OutOfSpace: _server("ServiceException"),
    errors.Unavailable: _server("ServiceException"),
}
