"""Who may do what: one function, on every path from the start (decision 12). Deny unless a rule says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
    }
)


def permit(
    principal: Principal,
    action: str,
    account: str,
    resource: str = "*",
    conditions: Mapping[str, str] | None = None,
) -> None:
    """Return if `principal` may do `action` ("function:invoke", "log:read" …) to `resource` of `account`; else raise Denied.

    Actions are NOUN:VERB in no vendor's words. Owners may all in their account, readers what `READS` names, and the platform
    itself everywhere. A function may what its role says: roles carry no grants yet, so it may nothing. `conditions` is
    what later rules look at (the qualifier, the source).
    """
    del conditions  # no rule looks at them yet; callers pass them from the start so that none is forgotten
    match principal.kind:
        case Kind.NODE:
            return
        case Kind.OWNER if principal.account == account:
            return
        case Kind.READER if principal.account == account and action in READS:
            return
    raise Denied(f"{principal.name} may not {action} on {resource}", action=action, resource=resource)
