"""Who may do what: one function, on every path from the start (decision 12). Deny unless a rule says otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from ondol.model.errors import Denied
from ondol.model.principals import Kind, Principal


def permit(
    principal: Principal,
    action: str,
    account: str,
    resource: str = "*",
    conditions: Mapping[str, str] | None = None,
) -> None:
    """Return if `principal` may do `action` ("function:invoke", "log:read" …) to `resource` of `account`; else raise Denied.

    Owners may all in their account, and the platform itself everywhere. A function may what its role says: roles carry no
    grants yet, so it may nothing. `conditions` is what later rules look at (the qualifier, the source).
    """
    del conditions  # no rule looks at them yet; callers pass them from the start so that none is forgotten
    match principal.kind:
        case Kind.NODE:
            return
        case Kind.OWNER if principal.account == account:
            return
    raise Denied(f"{principal.name} may not {action} on {resource}", action=action, resource=resource)
