"""Who may do what: one function, on every path from the start (decision 12). Deny unless a rule says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from ondol.model.errors import Denied
from ondol.model.principals import Kind, Principal

#: What looks and changes nothing: all that a read-only key may. An action that is not named here is not for it.
READS: Final = frozenset(
    {
        "account:read",
        "code:read",
        "event:list",
        "event:read",
        "function:list",
        "function:read",
        "log:list",
        "log:read",
        "metric:list",
        "metric:read",
        "node:read",
        "record:list",
        "record:read",
        "role:read",
    }
)


class Grants(Protocol):
    """What has been granted beyond an account's own keys: to functions, to sessions, to other accounts. In memory, no I/O."""

    def allows(self, principal: Principal, action: str, account: str, resource: str, conditions: Mapping[str, str]) -> bool:
        """Whether something grants this. `conditions`: "function" (an id) and "qualifier", where it is one function's."""
        ...


def owns(principal: Principal, account: str) -> bool:
    """Whether `permit` would let the principal do anything in this account: the usual case, told apart at little cost."""
    return principal.kind is Kind.OWNER and principal.account == account


def permit(
    principal: Principal,
    action: str,
    account: str,
    resource: str = "*",
    *,
    conditions: Mapping[str, str] | None = None,
    grants: Grants | None = None,
) -> None:
    """Return if `principal` may do `action` ("function:invoke", "log:read" …) to `resource` of `account`; else raise Denied.

    Actions are NOUN:VERB in no vendor's words. Owners may all in their account, readers what `READS` names, and the platform
    itself everywhere. All others, and owners and readers outside their account, may what `grants` says: nothing without it.
    `conditions` is what grants may look at (the function, the qualifier, the source).
    """
    match principal.kind:
        case Kind.NODE:
            return
        case Kind.OWNER if principal.account == account:
            return
        case Kind.READER if principal.account == account and action in READS:
            return
    if grants is not None and grants.allows(principal, action, account, resource, conditions or {}):
        return
    raise Denied(f"{principal.name} may not {action} on {resource}", action=action, resource=resource)
