"""Whether something grants what an account's own keys may without asking: `ondol.core.permit.Grants` for AWS's policies.

Within an account, a role's policies or a resource's own policy suffice; across accounts both must allow. What denies wins over
all. A resource's policy that names a whole account leaves it to that account's identities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.dialects.aws import roles
from ondol.dialects.aws.names import caller_arn, function_arn, partition
from ondol.dialects.aws.policy import Asked, Caller, Decision, Policy, decide
from ondol.dialects.aws.policy_words import Context
from ondol.model.functions import Function
from ondol.model.items import Item
from ondol.model.principals import Kind, Principal

LATEST: Final = "$LATEST"
#: Those who act in a role.
IN_ROLES: Final = frozenset({Kind.FUNCTION, Kind.SESSION})


class Grants:
    """Both processes have one, over their index."""

    def __init__(self, index: Index, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    def allows(self, principal: Principal, action: str, account: str, resource: str, conditions: Mapping[str, str]) -> bool:
        """The port, asked in the core's words: calling a function is what is granted in them."""
        del resource
        function = self._index.function(conditions.get("function", ""))
        if action != "function:invoke" or function is None or function.account != account:
            return False
        qualifier = conditions.get("qualifier", "")
        return self.may_function(principal, "lambda:InvokeFunction", function, qualifier or None)

    def may_function(
        self, who: Principal, action: str, function: Function, qualifier: str | None, context: Context | None = None
    ) -> bool:
        """Whether `who` may do `action` to a function, or to one of its versions or aliases."""
        arn = function_arn(function.account, function.region, function.name, qualifier)
        own = roles.function_policy(function.annotations, qualifier or LATEST)
        tags = {f"aws:resourcetag/{key.lower()}": (value,) for key, value in function.tags.items()}
        return self.may(who, action, arn, function.account, own=own, context={**tags, **(context or {})})

    def may(
        self,
        who: Principal,
        action: str,
        resource: str,
        account: str,
        *,
        own: Iterable[Policy] = (),
        context: Context | None = None,
    ) -> bool:
        """Whether `who` may do `action` to `resource`, which belongs to `account` and has policies of its `own`."""
        item = self._role(who)
        told = {**self._context(who, item), **(context or {})}
        identity = self._identity(who, item, Asked(action=action, resource=resource, context=told))
        own = list(own)
        by_name, by_account = (
            decide(own, Asked(action=action, resource=resource, caller=self.caller(who, item, whole=whole), context=told))
            for whole in (False, True)
        )
        if Decision.DENIED in (identity, by_account):
            return False
        if who.account == account and who.kind is not Kind.ANONYMOUS:
            return Decision.ALLOWED in (identity, by_name)
        if who.kind is Kind.ANONYMOUS:
            return by_name is Decision.ALLOWED
        return identity is Decision.ALLOWED and by_account is Decision.ALLOWED

    def may_assume(self, who: Principal, wanted: Item, context: Context) -> bool:
        """Whether `who` may take a role on: its trust must say so, and where that names an account, the identity's policies."""
        item = self._role(who)
        told = {**self._context(who, item), **context}
        arn, trust = wanted.value["Arn"], [roles.trust(wanted)]
        identity = self._identity(who, item, Asked(action="sts:AssumeRole", resource=arn, context=told))
        by_name, by_account = (
            decide(trust, Asked(action="sts:AssumeRole", resource=arn, caller=self.caller(who, item, whole=w), context=told))
            for w in (False, True)
        )
        if Decision.DENIED in (identity, by_account):
            return False
        if by_name is Decision.ALLOWED and who.account == wanted.account:
            return True
        return by_account is Decision.ALLOWED and identity is Decision.ALLOWED

    def trusts_service(self, wanted: Item, service: str) -> bool:
        """Whether a service may take the role on."""
        asked = Asked(action="sts:AssumeRole", resource=wanted.value["Arn"], caller=Caller(service=service))
        return decide([roles.trust(wanted)], asked) is Decision.ALLOWED

    def arn(self, who: Principal) -> str:
        """What refusals call a caller."""
        function = self._index.function(who.name) if who.kind is Kind.FUNCTION else None
        return caller_arn(who, function.name if function else "")

    def caller(self, who: Principal, item: Item | None, *, whole: bool) -> Caller:
        """How policies may name a caller; `whole`: also as one of its account."""
        if who.kind is Kind.ANONYMOUS:
            return Caller()
        names = {self.arn(who)}
        unknown = who.kind is Kind.FUNCTION and roles.role(self._index, who.role, who.account) is None
        if item is not None or unknown:
            names.add(who.role)
        elif who.kind is Kind.SESSION:
            names = set()  # the role is gone, and with it whatever was said of it
        root = f"arn:{partition(who.region)}:iam::{who.account}:root"
        return Caller(names=frozenset(names | ({root} if whole else set())))

    def _role(self, who: Principal) -> Item | None:
        """The role that the caller acts in; None when it is gone, whoever has its name now, or trusts functions no more.

        Trust is looked at again, because a function may be older than its role.
        """
        item = roles.role(self._index, who.role, who.account) if who.kind in IN_ROLES else None
        if item is None or (who.role_id and item.value["RoleId"] != who.role_id):
            return None
        return item if who.kind is Kind.SESSION or self.trusts_service(item, roles.LAMBDA) else None

    def _identity(self, who: Principal, item: Item | None, asked: Asked) -> Decision:
        """What the caller's own side says."""
        if who.kind is Kind.OWNER:
            return Decision.ALLOWED
        if item is None:
            return Decision.SILENT
        decision = decide(roles.policies(self._index, item), asked)
        bound = item.value.get("Boundary")
        if bound and decision is Decision.ALLOWED:
            return decide(roles.attached(self._index, bound), asked)
        return decision

    def _context(self, who: Principal, item: Item | None) -> Context:
        """The condition keys that every request has."""
        now_s = self._clock.wall_s()
        told: dict[str, tuple[str, ...]] = {
            "aws:currenttime": (datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),),
            "aws:epochtime": (str(int(now_s)),),
            "aws:requestedregion": (who.region,),
            "aws:securetransport": ("false",),
            "aws:principalisawsservice": ("false",),
        }
        if who.kind is Kind.ANONYMOUS:
            return {**told, "aws:principaltype": ("Anonymous",)}
        told["aws:principalaccount"] = (who.account,)
        if item is None:
            return {**told, "aws:principalarn": (self.arn(who),), "aws:principaltype": ("Account",)}
        session = self.arn(who).rpartition("/")[2]
        told |= {f"aws:principaltag/{key.lower()}": (value,) for key, value in item.value.get("Tags", {}).items()}
        return {
            **told,
            "aws:principalarn": (item.value["Arn"],),
            "aws:principaltype": ("AssumedRole",),
            "aws:userid": (f"{item.value['RoleId']}:{session}",),
        }
