"""What AWS calls a function: bare names, partial and whole ARNs, with or without a qualifier; and the ARNs we answer with.

Pure. `parse` takes what a client wrote and says which name of the caller's account and region it means, or raises the
`ServiceError` that Lambda answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ondol.dialects.aws.service import ServiceError
from ondol.model.functions import UNNUMBERED
from ondol.model.principals import Kind, Principal

#: The unpublished version, and the published one that has no number: functions on capacity providers have it.
LATEST: Final = "$LATEST"
LATEST_PUBLISHED: Final = "$LATEST.PUBLISHED"

_USER = {"Type": "User"}

#: The service's own patterns, as its validation texts print them.
FUNCTION_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
QUALIFIER_PATTERN = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
#: A function's role when its deployer named none that can be read.
DEFAULT_ROLE = "ondol"
FUNCTION_CHARS_MAX = 256
NAME_CHARS_MAX = 64
QUALIFIER_CHARS_MAX = 128

_WHOLE = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:(?P<word>function):)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)
_QUALIFIER = re.compile(QUALIFIER_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class Named:
    """A function as named by a client: whose, where, what, and which of its versions."""

    account: str
    region: str
    name: str
    qualifier: str | None


def partition(region: str) -> str:
    """The ARN partition that a region belongs to."""
    if region.startswith("cn-"):
        return "aws-cn"
    if region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"


def version_name(number: int | None) -> str:
    """A version as the service writes it; None is the unpublished one."""
    return LATEST if number is None else LATEST_PUBLISHED if number == UNNUMBERED else str(number)


def place(number: int | None) -> int:
    """Where a version stands in listings: the unpublished one, the one without a number, then by number."""
    return 0 if number is None else 1 if number == UNNUMBERED else number + 1


def function_arn(account: str, region: str, name: str, qualifier: str | None = None) -> str:
    """The ARN of a function, or of one of its versions or aliases."""
    arn = f"arn:{partition(region)}:lambda:{region}:{account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn


def caller_arn(who: Principal, function_name: str = "") -> str:
    """What an identity call shows: the account's root for its keys, a user for one that is read-only (nothing is refused to a
    root), the role and the function for a running function, the role and the session for a session.
    """
    prefix = f"arn:{partition(who.region)}"
    if who.kind is Kind.READER:
        return f"{prefix}:iam::{who.account}:user/{who.name}"
    if who.kind not in (Kind.FUNCTION, Kind.SESSION):
        return f"{prefix}:iam::{who.account}:root"
    # A session's name is its own, a function's is that of its function.
    role = who.role.rpartition("/")[2] or DEFAULT_ROLE
    return f"{prefix}:sts::{who.account}:assumed-role/{role}/{function_name or who.name}"


def parse(text: str, qualifier: str | None, *, account: str, region: str) -> Named:
    """The function that `text` and a separate `qualifier` mean to a caller of `account` in `region`."""
    named = _split(text)
    if named is None:
        raise _invalid(text, "functionName", FUNCTION_PATTERN)
    inner_account, inner_region, name, inner_qualifier = named
    if inner_region and inner_region != region:
        message = f"Functions from '{inner_region}' are not reachable in this region ('{region}')"
        raise ServiceError("ResourceNotFoundException", message, extra=_USER)
    if qualifier and inner_qualifier and qualifier != inner_qualifier:
        message = "The derived qualifier from the function name does not match the specified qualifier."
        raise ServiceError("InvalidParameterValueException", message, extra=_USER)
    return Named(inner_account or account, inner_region or region, name, qualifier or inner_qualifier or None)


def check(text: str, qualifier: str | None, found: list[str]) -> None:
    """Raise the ValidationException that Lambda answers to malformed names, or for what the caller `found` before. The codec
    does this for its operations; only a caller that goes round it (Invoke) needs to.
    """
    function = _WHOLE.fullmatch(text)
    if function is None:
        found.append(_pattern_text(text, "functionName", FUNCTION_PATTERN))
    if not 1 <= len(text) <= FUNCTION_CHARS_MAX:
        found.append(_length_text(text, "functionName", FUNCTION_CHARS_MAX))
    if qualifier is not None:
        if not _QUALIFIER.fullmatch(qualifier):
            found.append(_pattern_text(qualifier, "qualifier", QUALIFIER_PATTERN))
        if not 1 <= len(qualifier) <= QUALIFIER_CHARS_MAX:
            found.append(_length_text(qualifier, "qualifier", QUALIFIER_CHARS_MAX))
    if found:
        raise ServiceError("ValidationException", joined(found), status=400)


def joined(errors: list[str]) -> str:
    """Several findings as AWS's validation writes them."""
    noun = "error" if len(errors) == 1 else "errors"
    return f"{len(errors)} validation {noun} detected: {'; '.join(errors)}"


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, str, str, str] | None:
    found = _WHOLE.fullmatch(text)
    if found is None:
        return None
    return found["account"] or "", found["region"] or "", found["name"], found["qualifier"] or ""


def _invalid(value: str, where: str, pattern: str) -> ServiceError:
    return ServiceError("ValidationException", joined([_pattern_text(value, where, pattern)]))


def _pattern_text(value: str, where: str, pattern: str) -> str:
    return (
        f"Value '{value}' at '{where}' failed to satisfy constraint: Member must satisfy regular expression pattern: {pattern}"
    )


def _length_text(value: str, where: str, chars_max: int) -> str:
    bound = f"less than or equal to {chars_max}" if value else "greater than or equal to 1"
    return f"Value '{value}' at '{where}' failed to satisfy constraint: Member must have length {bound}"
