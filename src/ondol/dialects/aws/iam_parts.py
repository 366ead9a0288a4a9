"""What IAM's operations share: documents, tags, pages, ids, and the service's refusals."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from ondol.dialects.aws import policy
from ondol.dialects.aws.policy import Kind
from ondol.dialects.aws.policy_words import PolicyError
from ondol.dialects.aws.service import ServiceError

Params = dict[str, Any]
Read = Mapping[str, Any]

TAGS_MAX: Final = 50
LISTED_MAX: Final = 100
#: What a policy may come to, without white space.
POLICY_CHARS_MAX: Final = 10_240


def parsed(text: str, kind: Kind) -> str:
    """The policy's text, once it is known to be one. Raises MalformedPolicyDocument, LimitExceeded."""
    if len("".join(text.split())) > POLICY_CHARS_MAX:
        raise too_many("PolicySize", POLICY_CHARS_MAX)
    try:
        policy.parse(text, kind)
    except PolicyError as error:
        raise ServiceError("MalformedPolicyDocumentException", str(error)) from error
    return text


def encoded(text: str) -> str:
    """A document as IAM answers it: percent-encoded."""
    return quote(text, safe="~")


def unique_id(prefix: str) -> str:
    """An id in the form of AWS's: four letters and 17 characters."""
    return prefix + base64.b32encode(secrets.token_bytes(11)).decode()[:17]


def tags_of(given: Iterable[Read]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in given}


def tagged(value: Read, given: Iterable[Read]) -> Params:
    """A document with more tags. Raises LimitExceeded."""
    tags = {**value["Tags"], **tags_of(given)}
    if len(tags) > TAGS_MAX:
        raise too_many("TagsPerRole", TAGS_MAX)
    return {**value, "Tags": tags}


def without(value: Read, member: str, *keys: str) -> Params:
    """A document with less in one of its mappings."""
    return {**value, member: {key: each for key, each in value[member].items() if key not in keys}}


def page(params: Read, member: str, entries: Sequence[tuple[str, Any]]) -> Params:
    """One page of entries that are sorted by their position."""
    after = _position(params.get("Marker"))
    limit = min(params.get("MaxItems") or LISTED_MAX, 1000)
    found = [entry for entry in entries if after is None or entry[0] > after]
    shown: Params = {member: [each for _, each in found[:limit]], "IsTruncated": len(found) > limit}
    if len(found) > limit:
        shown["Marker"] = base64.urlsafe_b64encode(found[limit - 1][0].encode()).decode()
    return shown


def _position(marker: str | None) -> str | None:
    if not marker:
        return None
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ServiceError("ValidationError", "Invalid Marker.") from None


# Refusals ---------------------------------------------------------------------------------------------------------------
def absent(text: str) -> ServiceError:
    return ServiceError("NoSuchEntityException", text)


def taken(text: str) -> ServiceError:
    return ServiceError("EntityAlreadyExistsException", text)


def conflicting(text: str) -> ServiceError:
    return ServiceError("DeleteConflictException", text)


def too_many(what: str, limit: int) -> ServiceError:
    return ServiceError("LimitExceededException", f"Cannot exceed quota for {what}: {limit}")
