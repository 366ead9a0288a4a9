"""AWS's policy language: who may do what to what, on which conditions. Pure.

A policy is parsed once (`parse`) and asked as often as wanted (`decide`). An explicit Deny of any policy wins over every Allow;
where nothing says anything the answer is SILENT, which is a no. Three kinds of policy are parsed by one grammar: what an
identity may (no Principal), what a resource lets others do, and whom a role trusts (no Resource).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import msgspec

from ondol.dialects.aws import policy_conditions
from ondol.dialects.aws.policy_conditions import Condition
from ondol.dialects.aws.policy_words import Context, PolicyError, filled, glob, texts

VERSIONS: Final = ("2012-10-17", "2008-10-17")
#: The version in which `${…}` are variables.
VARIABLES_SINCE: Final = "2012-10-17"


class Kind(Enum):
    """What a policy hangs on."""

    IDENTITY = "identity"  #: a role: says nothing of principals
    RESOURCE = "resource"  #: a function, a layer: says whom it is for
    TRUST = "trust"  #: a role, as that which may be taken on


class Decision(Enum):
    """What policies come to."""

    ALLOWED = "allowed"
    DENIED = "denied"  #: by a statement that says so
    SILENT = "silent"  #: nothing speaks of it, which is a no


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as a Principal element may name them."""

    #: ARNs, account ids.
    names: frozenset[str] = frozenset()
    #: A service's host name ("lambda.amazonaws.com"), or "".
    service: str = ""
    #: Whether those who name everybody (`*`) mean the caller.
    anybody: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked."""

    action: str
    resource: str
    caller: Caller = field(default_factory=Caller)
    #: Condition keys in lower case -> values.
    context: Context = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement. A pattern list is None where the statement does not have that element."""

    allows: bool
    actions: tuple[str, ...] | None
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    not_resources: tuple[str, ...] | None
    #: kind ("AWS", "Service", …) -> values; None for policies of identities.
    principals: Mapping[str, tuple[str, ...]] | None
    conditions: tuple[Condition, ...]
    #: Whether `${…}` is a variable.
    variables: bool

    def applies(self, asked: Asked) -> bool:
        """Whether it speaks of this."""
        return (
            self._acts(asked.action)
            and self._covers(asked)
            and self._names(asked.caller)
            and all(condition.holds(asked.context, variables=self.variables) for condition in self.conditions)
        )

    def _acts(self, action: str) -> bool:
        action = action.lower()
        if self.actions is not None:
            return any(glob(pattern.lower(), action) for pattern in self.actions)
        return not any(glob(pattern.lower(), action) for pattern in self.not_actions or ())

    def _covers(self, asked: Asked) -> bool:
        if self.resources is not None:
            return any(self._matches(pattern, asked) for pattern in self.resources)
        if self.not_resources is not None:
            return not any(self._matches(pattern, asked) for pattern in self.not_resources)
        return True

    def _matches(self, pattern: str, asked: Asked) -> bool:
        known = filled(pattern, asked.context) if self.variables else pattern
        return known is not None and glob(known, asked.resource)

    def _names(self, caller: Caller) -> bool:
        if self.principals is None:
            return True
        for kind, values in self.principals.items():
            if caller.anybody and (kind == "*" or (kind == "AWS" and "*" in values)):
                return True
            if kind == "AWS" and not caller.names.isdisjoint(values):
                return True
            if kind == "Service" and caller.service and caller.service in values:
                return True
        return False


Policy = tuple[Statement, ...]


def decide(policies: Iterable[Policy], asked: Asked) -> Decision:
    """What these policies together say."""
    decision = Decision.SILENT
    for policy in policies:
        for statement in policy:
            if statement.allows and decision is Decision.ALLOWED:
                continue
            if statement.applies(asked):
                if not statement.allows:
                    return Decision.DENIED
                decision = Decision.ALLOWED
    return decision


@lru_cache(maxsize=2048)
def parse(text: str, kind: Kind) -> Policy:
    """Raises PolicyError, whose text names what is wrong and where."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise PolicyError("This policy contains invalid Json") from None
    return _policy(document, kind)


def of_document(document: Mapping[str, Any], kind: Kind) -> Policy:
    """As `parse`, of a document that is decoded already."""
    return parse(msgspec.json.encode(document, order="sorted").decode(), kind)


# Reading --------------------------------------------------------------------------------------------------------------
def _policy(document: Any, kind: Kind) -> Policy:
    if not isinstance(document, dict):
        raise PolicyError("Syntax errors in policy.")
    _only(document, {"Version", "Id", "Statement"})
    version = document.get("Version", VERSIONS[1])
    if version not in VERSIONS:
        raise PolicyError("The policy must contain a valid version string")
    statements = document.get("Statement")
    listed: list[Any] = statements if isinstance(statements, list) else [statements]
    if not listed or not all(isinstance(each, dict) for each in listed):
        raise PolicyError("Syntax errors in policy.")
    return tuple(_statement(each, kind, version) for each in listed)


def _statement(given: dict[str, Any], kind: Kind, version: str) -> Statement:
    _only(given, {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"})
    if given.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"Invalid effect: {given.get('Effect')}")
    actions, not_actions = _either(given, "Action", _ACTION.fullmatch, "Actions/Conditions must be prefaced by a vendor")
    if kind is Kind.TRUST:
        if "Resource" in given or "NotResource" in given:
            raise PolicyError("Has prohibited field Resource")
        resources = not_resources = None
    else:
        resources, not_resources = _either(given, "Resource", _is_resource, "Resource must be in ARN format or '*'.")
    if kind is Kind.IDENTITY and "Principal" in given:
        raise PolicyError("Policy document should not specify a principal.")
    if kind is not Kind.IDENTITY and "Principal" not in given:
        raise PolicyError("Missing required field Principal")
    return Statement(
        allows=given["Effect"] == "Allow",
        actions=actions,
        not_actions=not_actions,
        resources=resources,
        not_resources=not_resources,
        principals=None if kind is Kind.IDENTITY else _principals(given["Principal"]),
        conditions=policy_conditions.parse(given.get("Condition", {})),
        variables=version == VARIABLES_SINCE,
    )


_ACTION: Final = re.compile(r"\*|[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+", re.ASCII)


def _is_resource(text: str) -> bool:
    return text.startswith("arn:") or set(text) <= {"*", "?"}


def _either(
    given: dict[str, Any], element: str, good: Callable[[str], Any], wrong: str
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The element or its opposite: exactly one of the two."""
    if (element in given) == (f"Not{element}" in given):
        missing = element not in given
        raise PolicyError(f"Policy statement must contain {element.lower()}s." if missing else "Syntax errors in policy.")
    listed = texts(given.get(element, given.get(f"Not{element}")))
    if not listed or not all(good(each) for each in listed):
        raise PolicyError(wrong)
    return (listed, None) if element in given else (None, listed)


def _principals(given: Any) -> dict[str, tuple[str, ...]]:
    if given == "*":
        return {"*": ("*",)}
    if not isinstance(given, dict) or not given:
        raise PolicyError("Invalid principal in policy")
    _only(given, {"AWS", "Service", "Federated", "CanonicalUser"})
    return {kind: _accounts(texts(values)) if kind == "AWS" else texts(values) for kind, values in given.items()}


_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)


def _accounts(values: Sequence[str]) -> tuple[str, ...]:
    """An account's number means its root."""
    for value in values:
        if value != "*" and not _ACCOUNT.fullmatch(value) and not value.startswith("arn:"):
            raise PolicyError(f'Invalid principal in policy: "AWS":"{value}"')
    return tuple(f"arn:aws:iam::{each}:root" if _ACCOUNT.fullmatch(each) else each for each in values)


def _only(given: Mapping[str, Any], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise PolicyError(f"Has prohibited field {name}")
