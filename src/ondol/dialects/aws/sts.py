"""STS: who am I. Ondol hands out temporary credentials to functions by itself, so the operations that make them are refused."""

from __future__ import annotations

from typing import Any

from ondol.core.catalog import Index
from ondol.dialects.aws.names import caller_arn
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.principals import Kind


class Sts:
    """The operations."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @property
    def operations(self) -> Operations:
        return {
            "GetCallerIdentity": self.get_caller_identity,
            "GetSessionToken": _no_sessions,
            "AssumeRole": _no_sessions,
            "GetFederationToken": _no_sessions,
        }

    async def get_caller_identity(self, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        """The account's root for its keys, a user for a read-only one; the role and the function for a running function."""
        del params
        who, account = context.principal, context.account
        if who.kind is not Kind.FUNCTION:
            user = who.name if who.kind is Kind.READER else account
            return {"UserId": user, "Account": account, "Arn": caller_arn(who)}
        function = self._index.function(who.name)
        arn = caller_arn(who, function.name if function else "")
        _, role, name = arn.rsplit("/", 2)
        return {"UserId": f"{_role_id(role)}:{name}", "Account": account, "Arn": arn}


async def _no_sessions(_context: Context, _params: dict[str, Any]) -> dict[str, Any]:
    message = (
        "Ondol gives every running function temporary credentials by itself and makes none on request; "
        "use the node's own keys (`ondol env` prints them)."
    )
    raise ServiceError("NotImplemented", message, status=501)


def _role_id(role: str) -> str:
    """A stable id in the form of AWS's: AROA and 17 characters."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    code = int.from_bytes(role.encode()[:64].ljust(11, b"\0")[:11], "big")
    made = []
    for _ in range(17):
        code, digit = divmod(code, 32)
        made.append(letters[digit])
    return "AROA" + "".join(made)
