"""Conditions of policies: operators, their IfExists form, and sets of values. Pure.

Of `{"StringLike": {"aws:PrincipalArn": ["…", "…"]}}` any of the values suffices, while every operator and key must hold.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ondol.dialects.aws.policy_words import Context, PolicyError, filled, glob, texts

#: (value of the policy, value of the request) -> whether they fit. Raises ValueError for values that are none of its kind.
Operator = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key."""

    operator: Operator
    #: Holds where the operator does not, for every value.
    negated: bool
    #: "" (the key has one value), "any" or "all".
    quantifier: str
    if_exists: bool
    key: str  #: in lower case
    values: tuple[str, ...]

    def holds(self, context: Context, *, variables: bool) -> bool:
        """Whether the request's context is as the condition wants it."""
        found = context.get(self.key)
        if not found:
            return self.if_exists or self.quantifier == "all" or (self.negated and self.quantifier != "any")
        wanted = [filled(each, context) if variables else each for each in self.values]
        fits = [any(each is not None and self._fits(each, value) for each in wanted) != self.negated for value in found]
        return any(fits) if self.quantifier == "any" else all(fits)

    def _fits(self, wanted: str, value: str) -> bool:
        try:
            return self.operator(wanted, value)
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class _Exists:
    """The operator Null: whether a key is missing."""

    key: str
    missing: bool

    def holds(self, context: Context, *, variables: bool) -> bool:
        del variables
        return (not context.get(self.key)) == self.missing


def parse(given: Any) -> tuple[Any, ...]:
    """The conditions of a statement. Raises PolicyError."""
    if not isinstance(given, dict):
        raise PolicyError("Syntax errors in policy.")
    made: list[Any] = []
    for name, keys in given.items():
        if not isinstance(keys, dict):
            raise PolicyError("Syntax errors in policy.")
        made.extend(_condition(name, key, texts(values)) for key, values in keys.items())
    return tuple(made)


def _condition(name: str, key: str, values: tuple[str, ...]) -> Any:
    quantifier, _, rest = name.rpartition(":")
    operator = rest.removesuffix("IfExists")
    if operator == "Null":
        return _Exists(key.lower(), values == ("true",))
    known = OPERATORS.get(operator.lower())
    if known is None or quantifier not in _QUANTIFIERS:
        raise PolicyError(f"Invalid Condition type : {name}")
    compare, negated = known
    return Condition(compare, negated, _QUANTIFIERS[quantifier], operator != rest, key.lower(), values)


_QUANTIFIERS: Final[Mapping[str, str]] = {"": "", "ForAnyValue": "any", "ForAllValues": "all"}


# Operators ------------------------------------------------------------------------------------------------------------
def _arn(pattern: str, value: str) -> bool:
    """Part by part: a wildcard does not reach over a colon, but in the last part."""
    wanted, found = pattern.split(":", 5), value.split(":", 5)
    return len(wanted) == len(found) == 6 and all(glob(one, other) for one, other in zip(wanted, found, strict=True))


def _address(network: str, value: str) -> bool:
    return ipaddress.ip_address(value) in ipaddress.ip_network(network, strict=False)


def _at(text: str) -> float:
    """A date, or seconds since the epoch. Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _ordered(read: Callable[[str], float], name: str) -> dict[str, tuple[Operator, bool]]:
    """The six comparisons of values that have an order; the policy's value stands on the right."""
    return {
        f"{name}equals": (lambda wanted, value: read(value) == read(wanted), False),
        f"{name}notequals": (lambda wanted, value: read(value) == read(wanted), True),
        f"{name}lessthan": (lambda wanted, value: read(value) < read(wanted), False),
        f"{name}lessthanequals": (lambda wanted, value: read(value) <= read(wanted), False),
        f"{name}greaterthan": (lambda wanted, value: read(value) > read(wanted), False),
        f"{name}greaterthanequals": (lambda wanted, value: read(value) >= read(wanted), False),
    }


def _exact(wanted: str, value: str) -> bool:
    return wanted.replace("\x00", "*").replace("\x01", "?") == value


def _any_case(wanted: str, value: str) -> bool:
    return _exact(wanted, value) or wanted.lower() == value.lower()


#: Name in lower case -> (operator, whether it is the negated form).
OPERATORS: Final[Mapping[str, tuple[Operator, bool]]] = {
    "stringequals": (_exact, False),
    "stringnotequals": (_exact, True),
    "stringequalsignorecase": (_any_case, False),
    "stringnotequalsignorecase": (_any_case, True),
    "stringlike": (glob, False),
    "stringnotlike": (glob, True),
    "binaryequals": (_exact, False),
    "bool": (_any_case, False),
    "arnequals": (_arn, False),
    "arnlike": (_arn, False),
    "arnnotequals": (_arn, True),
    "arnnotlike": (_arn, True),
    "ipaddress": (_address, False),
    "notipaddress": (_address, True),
    **_ordered(float, "numeric"),
    **_ordered(_at, "date"),
}
