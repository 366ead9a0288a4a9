"""STS: who am I, and taking a role on. Running functions get their temporary credentials by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.dialects.aws import errors, policy, roles
from ondol.dialects.aws.credentials import TOKEN_CHARS_MAX, Credentials
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.names import DEFAULT_ROLE
from ondol.dialects.aws.policy_words import PolicyError
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.items import Item
from ondol.model.principals import Kind, Principal

Params = dict[str, Any]
#: How long a session lasts when nobody says, and at most where it was made by a session.
SESSION_S: Final = 3600
#: What policies may look at, and nothing here does yet: refused rather than passed over.
_REFUSED: Final[Mapping[str, str]] = {
    "Tags": "session tags: tag the role itself, and policies see its tags as aws:PrincipalTag",
    "TransitiveTagKeys": "session tags: tag the role itself, and policies see its tags as aws:PrincipalTag",
    "SourceIdentity": "source identities: say who it is in RoleSessionName, which policies see as sts:RoleSessionName",
    "ProvidedContexts": "context assertions: leave ProvidedContexts out",
    "SerialNumber": "MFA: leave SerialNumber and TokenCode out, and aws:MultiFactorAuthPresent out of the role's trust",
    "MinimumSessionTokenSize": "tokens that are longer than what they say: leave it out",
    "TokenCode": "MFA: leave SerialNumber and TokenCode out, and aws:MultiFactorAuthPresent out of the role's trust",
}
#: Session policies, texts and names together.
POLICY_CHARS_MAX: Final = 2048
POLICY_ARNS_MAX: Final = 10


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
        for member, what in _REFUSED.items():
            if params.get(member):
                raise _invalid(f"Ondol does not do {member}, {what}.")
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
            scope=_scope(self._index, item, params),
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
            **_sizes(minted.session_token, principal),
        }

    def _role_id(self, who: Principal) -> str:
        """A known role's own id, else a stable one in its form."""
        item = roles.role(self._index, who.role, who.account)
        return str(item.value["RoleId"]) if item else _made_up(who.role.rpartition("/")[2] or DEFAULT_ROLE)


def _seconds(who: Principal, item: Item, params: Params) -> int:
    seconds = int(params.get("DurationSeconds") or SESSION_S)
    if seconds > item.value["MaxSessionDuration"]:
        raise _invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    if who.kind in IN_ROLES and seconds > SESSION_S:
        raise _invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
    return seconds


def _scope(index: Index, item: Item, params: Params) -> tuple[str, ...]:
    """The session policies: the text first, then the names. Raises ServiceError."""
    text = params.get("Policy") or ""
    arns = list(dict.fromkeys(each.get("arn") or "" for each in params.get("PolicyArns") or ()))
    if len(arns) > POLICY_ARNS_MAX:
        raise _invalid(f"A session takes up to {POLICY_ARNS_MAX} managed policies; PolicyArns names {len(arns)}.")
    chars = len(text) + sum(map(len, arns))
    if chars > POLICY_CHARS_MAX:
        message = f"Policy and PolicyArns have {chars} characters together, and may have {POLICY_CHARS_MAX}."
        raise ServiceError("PackedPolicyTooLargeException", message)
    for arn in arns:
        if arn.split(":")[4:5] not in ([item.account], ["aws"]):
            raise _invalid(f"The policy {arn} is not one of the role's account {item.account}, nor one of AWS's own.")
        if not roles.is_of_aws(arn) and roles.managed(index, arn) is None:
            raise _invalid(f"The policy {arn} does not exist.")
    try:
        if text:
            policy.parse(text, policy.Kind.IDENTITY)
    except PolicyError as error:
        raise ServiceError("MalformedPolicyDocumentException", str(error)) from error
    return (text, *arns) if text else tuple(arns)


def _sizes(token: str, principal: Principal) -> Params:
    """How much of what a token may have it has."""
    share = round(len(token) * 100 / TOKEN_CHARS_MAX)
    sizes: Params = {"SessionTokenSize": len(token), "SessionTokenUtilization": share}
    return {**sizes, "PackedPolicySize": share} if principal.scope else sizes


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationError", message, status=400)


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
