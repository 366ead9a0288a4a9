"""STS: who am I, and taking a role on. Running functions get their temporary credentials by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.dialects.aws import errors, roles
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.names import DEFAULT_ROLE
from ondol.dialects.aws.refusals import not_built
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.items import Item
from ondol.model.principals import Kind, Principal

Params = dict[str, Any]
#: How long a session lasts when nobody says, and at most where it was made by a session.
SESSION_S: Final = 3600
#: What would change what a session may: refused rather than passed over.
_NARROWING: Final = ("Policy", "PolicyArns", "Tags", "TransitiveTagKeys", "ProvidedContexts", "SerialNumber")


class Sts:
    """The operations."""

    def __init__(self, index: Index, grants: Grants, credentials: Credentials, clock: Clock) -> None:
        self._index = index
        self._grants = grants
        self._credentials = credentials
        self._clock = clock

    @property
    def operations(self) -> Operations:
        return {
            "GetCallerIdentity": self.get_caller_identity,
            "AssumeRole": self.assume_role,
            "GetSessionToken": _no_sessions,
            "GetFederationToken": _no_sessions,
        }

    async def get_caller_identity(self, context: Context, params: Params) -> Params:
        """The account's root for its keys, a user for a read-only one; the role and the session for whoever acts in a role."""
        del params
        who, arn = context.principal, self._grants.arn(context.principal)
        if who.kind not in IN_ROLES:
            user = who.name if who.kind is Kind.READER else context.account
            return {"UserId": user, "Account": context.account, "Arn": arn}
        return {"UserId": f"{self._role_id(who)}:{arn.rpartition('/')[2]}", "Account": context.account, "Arn": arn}

    async def assume_role(self, context: Context, params: Params) -> Params:
        for member in _NARROWING:
            if params.get(member):
                raise not_built(f"{member} of a session", "Take on a role that may no more than you want.")
        who, session = context.principal, params["RoleSessionName"]
        item = roles.anybodys(self._index, params["RoleArn"])
        if item is None or not self._grants.may_assume(who, item, _context(params)):
            raise errors.not_authorized_plainly(self._grants.arn(who), "sts:AssumeRole", params["RoleArn"])
        seconds = _seconds(who, item, params)
        principal = Principal(
            kind=Kind.SESSION,
            account=item.account,
            region=context.region,
            name=session,
            role=item.value["Arn"],
            role_id=item.value["RoleId"],
        )
        minted = self._credentials.mint(principal, now_s=self._clock.wall_s(), lifetime_s=seconds)
        return {
            "Credentials": {
                "AccessKeyId": minted.access_key_id,
                "SecretAccessKey": minted.secret,
                "SessionToken": minted.session_token,
                "Expiration": datetime.fromtimestamp(minted.expires_s, UTC),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"{item.value['RoleId']}:{session}",
                "Arn": self._grants.arn(principal),
            },
        }

    def _role_id(self, who: Principal) -> str:
        """A known role's own id, else a stable one in its form."""
        item = roles.role(self._index, who.role, who.account)
        return str(item.value["RoleId"]) if item else _made_up(who.role.rpartition("/")[2] or DEFAULT_ROLE)


def _seconds(who: Principal, item: Item, params: Params) -> int:
    seconds = int(params.get("DurationSeconds") or SESSION_S)
    if seconds > item.value["MaxSessionDuration"]:
        text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise ServiceError("ValidationError", text, status=400)
    if who.kind in IN_ROLES and seconds > SESSION_S:
        text = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
        raise ServiceError("ValidationError", text, status=400)
    return seconds


def _context(params: Params) -> Mapping[str, tuple[str, ...]]:
    """The condition keys that only this operation has."""
    told = {"sts:rolesessionname": (params["RoleSessionName"],)}
    if params.get("ExternalId"):
        told["sts:externalid"] = (params["ExternalId"],)
    return told


async def _no_sessions(_context: Context, _params: Params) -> Params:
    message = (
        "Ondol gives every running function temporary credentials by itself, and others for a role (AssumeRole); "
        "for its users it makes none: use the node's own keys (`ondol env` prints them)."
    )
    raise ServiceError("NotImplemented", message, status=501)


def _made_up(role: str) -> str:
    """A stable id in the form of AWS's: AROA and 17 characters."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    code = int.from_bytes(role.encode()[:64].ljust(11, b"\0")[:11], "big")
    made = []
    for _ in range(17):
        code, digit = divmod(code, 32)
        made.append(letters[digit])
    return "AROA" + "".join(made)
