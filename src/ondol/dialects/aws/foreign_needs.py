"""What a request to a service that Ondol does not serve needs to be allowed: actions and resources as policies name them.

Functions' sessions may at such a service what their role's policies say, so the request is read as far as that takes. A
resource that cannot be told is asked for as "*", which only a policy for all resources allows. Pure but for service models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ondol.dialects.aws import cbor, codec_rest, foreign_s3
from ondol.dialects.aws.foreign_s3 import Needs
from ondol.dialects.aws.names import partition
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.shapes import UnknownServiceError, model
from ondol.http.messages import Request

Params = Mapping[str, Any]
FIELDS_MAX: Final = 10_000


def needs(service: str, request: Request, body: bytes | None, account: str, region: str) -> Needs:
    """(action, resource) pairs, at least one; all of them must be allowed. Raises ServiceError for what nobody could read."""
    if service == "s3":
        return foreign_s3.needs(request, body)
    operation, params = _asked(service, request, body or b"")
    finder = _FINDERS.get(service)
    prefix = f"arn:{partition(region)}:{service}:{region}:{account}:"
    named = [_whole(each, prefix) for each in finder(params)] if finder else []
    if not named:
        named = [value for member, value in params.items() if member.lower().endswith("arn") and _is_arn(value)]
    return [(f"{service}:{operation}", resource) for resource in named or ["*"]]


def _is_arn(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("arn:")


def _whole(name: str, prefix: str) -> str:
    if name.startswith("arn:"):
        return name
    owner, colon, _ = name.partition(":")
    if colon and len(owner) == 12 and owner.isdigit():
        return prefix[: -len("123456789012:")] + name
    return prefix + name


# Which operation, with what ------------------------------------------------------------------------------------------
def _asked(service: str, request: Request, body: bytes) -> tuple[str, Params]:
    target = request.header("x-amz-target")
    if target:
        return target.rpartition(".")[2], _json(body)
    if request.header("smithy-protocol"):
        return request.path.rpartition("/")[2], _cbor(body)
    form = request.header("content-type").startswith("application/x-www-form-urlencoded")
    fields = _form(f"{request.query}&{body.decode('latin-1')}" if form else request.query)
    if "Action" in fields:
        if service == "sqs" and request.path.strip("/"):
            fields = {"QueueUrl": request.path, **fields}
        return fields["Action"], fields
    try:
        matched = codec_rest.match(model(service), request.method, request.path, codec_rest.query_of(request.query))
    except UnknownServiceError:
        raise _unreadable(service, request) from None
    return matched.operation.name, {**(_json(body) if body[:1] == b"{" else {}), **matched.labels}


def _unreadable(service: str, request: Request) -> ServiceError:
    text = (
        f"Ondol cannot tell which action of {service} {request.method} {request.path[:200]} is, and so not whether a role's "
        "policies allow it: call it with a key of the account."
    )
    return ServiceError("AccessDeniedException", text, status=403)


def _json(body: bytes) -> Params:
    try:
        found = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ServiceError("SerializationException", f"The request's body is no JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def _cbor(body: bytes) -> Params:
    try:
        found = cbor.decode(body) if body else {}
    except ValueError as error:
        raise ServiceError("SerializationException", f"The request's body is no CBOR: {error}") from None
    return found if isinstance(found, dict) else {}


def _form(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise ServiceError("SerializationException", f"At most {FIELDS_MAX} fields.") from error


# To what: names are completed to ARNs of the caller's account and region ---------------------------------------------
def _texts(params: Params, *members: str) -> Iterator[str]:
    for member in members:
        value = params.get(member)
        yield from (each for each in (value if isinstance(value, list) else [value]) if each and isinstance(each, str))


def _prefixed(kind: str, *members: str) -> Callable[[Params], list[str]]:
    return lambda params: [each if _is_arn(each) else kind + each.lstrip("/") for each in _texts(params, *members)]


def _sqs(params: Params) -> list[str]:
    """A queue's URL may name another account: "ACCOUNT:NAME" then."""
    urls = [urlsplit(each).path.strip("/").split("/") for each in _texts(params, "QueueUrl")]
    return [":".join(parts[-2:]) for parts in urls] or list(_texts(params, "QueueName"))


def _dynamodb(params: Params) -> list[str]:
    tables = list(_texts(params, "TableName", "TableArn", "ResourceArn", "StreamArn"))
    requested, moves = params.get("RequestItems"), params.get("TransactItems")
    tables += requested if isinstance(requested, dict) else []
    for move in moves if isinstance(moves, list) else []:
        for each in move.values() if isinstance(move, dict) else ():
            tables += _texts(each, "TableName") if isinstance(each, dict) else ()
    index = params.get("IndexName")
    tail = f"/index/{index}" if isinstance(index, str) else ""
    return [(each if _is_arn(each) else f"table/{each}") + tail for each in tables]


def _events(params: Params) -> list[str]:
    entries = params.get("Entries")
    if isinstance(entries, list):
        buses = [each.get("EventBusName") or "default" for each in entries if isinstance(each, dict)]
        return [each if _is_arn(each) else f"event-bus/{each}" for each in buses]
    bus = params.get("EventBusName") or "default"
    rule = params.get("Rule") or params.get("Name")
    return [f"rule/{rule}" if bus == "default" else f"rule/{bus}/{rule}"] if rule else []


def _secrets(params: Params) -> list[str]:
    # A secret's ARN ends in six characters that its name does not tell.
    return [each if _is_arn(each) else f"secret:{each}-??????" for each in _texts(params, "SecretId", "Name")]


_FINDERS: Final[Mapping[str, Callable[[Params], list[str]]]] = {
    "dynamodb": _dynamodb,
    "events": _events,
    "kinesis": _prefixed("stream/", "StreamName", "StreamARN"),
    "firehose": _prefixed("deliverystream/", "DeliveryStreamName"),
    "kms": _prefixed("key/", "KeyId"),
    "secretsmanager": _secrets,
    "sns": lambda params: list(_texts(params, "TopicArn", "TargetArn", "ResourceArn", "Name")),
    "sqs": _sqs,
    "ssm": _prefixed("parameter/", "Name", "Names", "Path"),
}
