"""The policies of resources as Lambda writes them, a statement at a time: for functions and for versions of layers. Pure.

A policy is kept as its document; the revision id is made of it, so that equal policies have equal ids.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ondol.dialects.aws import policy, refusals
from ondol.dialects.aws.policy import VERSIONS, Kind
from ondol.dialects.aws.policy_words import PolicyError
from ondol.dialects.aws.service import ServiceError

Document = dict[str, Any]

POLICY_BYTES_MAX: Final = 20_480

_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.(?:amazonaws\.com(?:\.cn)?|amazon\.com|alexa\.com)", re.ASCII)
_IDENTITY: Final = re.compile(r"arn:aws[a-zA-Z-]*:(?:iam|sts)::\d{12}:(?:root|(?:user|role|assumed-role)/\S+)", re.ASCII)


def text_of(document: Mapping[str, Any]) -> str:
    """As the service answers it."""
    return msgspec.json.encode(document).decode()


def revision_of(document: Mapping[str, Any]) -> str:
    """The policy's revision id."""
    return str(uuid.UUID(bytes=hashlib.sha256(text_of(document).encode()).digest()[:16], version=4))


def principal(text: str, partition: str) -> Any:
    """The Principal element that a client's short form means. Raises ServiceError."""
    if text == "*":
        return "*"
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:{partition}:iam::{text}:root"}
    if _IDENTITY.fullmatch(text):
        return {"AWS": text}
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    raise refusals.invalid("The provided principal was invalid. Please check the principal and try again.")


def with_statement(document: Mapping[str, Any] | None, statement: Document) -> Document:
    """The policy with one statement more. Raises ServiceError."""
    statements = list((document or {}).get("Statement", ()))
    sid = statement["Sid"]
    if any(each.get("Sid") == sid for each in statements):
        raise refusals.conflict(
            f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing "
            "statement."
        )
    made = {"Version": VERSIONS[0], "Id": "default", **(document or {}), "Statement": [*statements, statement]}
    check_size(made)
    return made


def without_statement(document: Mapping[str, Any] | None, sid: str) -> Document | None:
    """The policy with one statement less; None when nothing is left. Raises ServiceError."""
    if not document:
        raise refusals.not_found("No policy is associated with the given resource.")
    left = [each for each in document["Statement"] if each.get("Sid") != sid]
    if len(left) == len(document["Statement"]):
        raise refusals.not_found(f"Statement {sid} is not found in resource policy.")
    return {**document, "Statement": left} if left else None


def check_size(document: Mapping[str, Any]) -> None:
    size = len(text_of(document))
    if size > POLICY_BYTES_MAX:
        text = f"The final policy size ({size}) is bigger than the limit ({POLICY_BYTES_MAX})."
        raise ServiceError("PolicyLengthExceededException", text, status=400, extra={"Type": "User"})


def check_revision(document: Mapping[str, Any] | None, revision: str | None, operation: str) -> None:
    """Raise PreconditionFailedException for a stale revision id. `operation` tells the current one."""
    if revision is not None and (not document or revision != revision_of(document)):
        raise ServiceError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            f"Call the {operation} API to retrieve the latest Revision Id",
            status=412,
            extra={"Type": "User"},
        )


def whole(text: str) -> Document:
    """A whole policy as a client wrote it. Raises ServiceError."""
    try:
        policy.parse(text, Kind.RESOURCE)
    except PolicyError as error:
        raise refusals.invalid(f"The policy is not valid: {error}") from error
    document: Document = msgspec.json.decode(text)
    listed = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    made = {**document, "Statement": listed}
    check_size(made)
    return made
