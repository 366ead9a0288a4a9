"""What the modules of CloudWatch Logs share: names and ARNs, tokens, and the service's words for the store's errors."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from ondol.dialects.aws.names import partition
from ondol.dialects.aws.patterns import BadPattern, Pattern, parse
from ondol.dialects.aws.service import Context, Handler, ServiceError
from ondol.journal import Journal
from ondol.model.errors import AlreadyExists, Invalid, NotFound, Throttled, Unavailable

Params = dict[str, Any]

#: Later than any event: a question for events from there on is only whether group and stream exist.
_NEVER_MS = 10**15


async def answered(handler: Handler, context: Context, params: Params) -> Params:
    """The handler's answer, with what the store raises in the service's words."""
    try:
        return await handler(context, params)
    except NotFound as error:
        message = f"The specified {error.kind} does not exist."
        raise ServiceError("ResourceNotFoundException", message) from error
    except AlreadyExists as error:
        kind = "log stream" if str(error).startswith("log stream") else "log group"
        raise ServiceError("ResourceAlreadyExistsException", f"The specified {kind} already exists") from error
    except Throttled as error:
        raise ServiceError("LimitExceededException", "Resource limit exceeded.") from error
    except Invalid as error:
        raise invalid(str(error)) from error
    except Unavailable as error:
        raise ServiceError("ServiceUnavailableException", str(error), status=503) from error


def invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)


def bad_token() -> ServiceError:
    return invalid("The specified nextToken is invalid.")


def group_arn(context: Context, group: str) -> str:
    return f"arn:{partition(context.region)}:logs:{context.region}:{context.account}:log-group:{group}"


def group_named(identifier: str) -> str:
    """The group that a name or an ARN (with or without `:*`) stands for."""
    if not identifier.startswith("arn:"):
        return identifier
    return identifier.split(":", 6)[-1].removesuffix(":*")


def group_of(params: Params) -> str:
    """The group of a request, by name or identifier."""
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if bool(name) == bool(identifier):
        raise invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
    return str(name) if name else group_named(str(identifier))


async def must_exist(journal: Journal, context: Context, group: str, stream: str | None = None) -> None:
    """Raise the store's NotFound unless there is such a group (and stream)."""
    streams = None if stream is None else [stream]
    await journal.entries(context.account, context.region, group, streams=streams, start_ms=_NEVER_MS, limit=1)


def pattern_of(text: str | None) -> Pattern:
    try:
        return parse(text or "")
    except BadPattern as error:
        raise invalid(f"Invalid filter pattern: {error}") from error


def sealed(place: Any) -> str:
    """A token that carries a place, and nothing else: nothing is kept between calls."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def opened(token: str | None, kind: type) -> Any:
    """What `sealed` was given; None for no token."""
    if not token:
        return None
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, kind):
        raise bad_token()
    return place
