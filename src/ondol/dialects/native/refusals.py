"""The native API's errors: one shape, one table of statuses, one sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ondol.http.messages import Response
from ondol.model import errors
from ondol.model.errors import OndolError

#: The most special class of an error's ancestry decides.
STATUS: Final[dict[type[OndolError], int]] = {
    errors.Invalid: 400,
    errors.NotFound: 404,
    errors.RevisionMismatch: 412,
    errors.Conflict: 409,
    errors.Denied: 403,
    errors.TooLarge: 413,
    errors.Throttled: 429,
    errors.RuntimeMissing: 502,
    errors.NotBuilt: 501,
    errors.OutOfSpace: 507,
    errors.Unavailable: 503,
    OndolError: 500,
}


class Error(Struct, frozen=True, kw_only=True):
    """What went wrong. `error` is for programs and does not change; `message` is a sentence for people, and may."""

    error: str
    message: str
    #: The header x-request-id of the same answer; the node's log names unexpected failures by it.
    request_id: str
    #: The member, parameter or setting that is wrong, where it is one.
    field: str | UnsetType = UNSET


class UnsupportedMediaType(errors.Invalid):
    """The body is said to be what the operation does not take."""


def refusal(
    status: int,
    error: str,
    message: str,
    request_id: str,
    *,
    field: str | UnsetType = UNSET,
    headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """An error as a response."""
    document = Error(error=error, message=message, request_id=request_id, field=field)
    return Response(status, (("content-type", "application/json"), *headers), msgspec.json.encode(document))


def of_error(error: OndolError, request_id: str) -> Response:
    """The platform's own failure."""
    kind = type(error)
    status = 415 if kind is UnsupportedMediaType else next(STATUS[each] for each in kind.__mro__ if each in STATUS)
    field = error.field if isinstance(error, errors.InvalidSetting) else UNSET
    headers = []
    if isinstance(error, errors.Throttled):
        headers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    return refusal(status, kind.__name__, str(error), request_id, field=field, headers=headers)


def unauthenticated(request_id: str) -> Response:
    """Nobody asks: who is it?"""
    message = "sign the request, or send `Authorization: Bearer ID:SECRET` (`ondol env` prints the node's first key)"
    return refusal(401, "Unauthenticated", message, request_id, headers=[("www-authenticate", 'Bearer realm="ondol"')])


def internal(request_id: str) -> Response:
    """A mistake of ours."""
    return refusal(500, "Internal", "the node failed; its log names this request's id", request_id)
