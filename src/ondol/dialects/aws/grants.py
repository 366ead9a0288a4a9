"""Whether something grants what an account's own keys may without asking: `ondol.core.permit.Grants` for AWS's policies.

Within an account, a role's policies or a resource's own policy suffice; across accounts both must allow. What denies wins over
all. A resource's policy that names a whole account leaves it to that account's identities. A role's boundary, and the policies
that a session was narrowed with, bound what both say of the role; only a resource's policy that names the very session goes
beyond them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.dialects.aws import errors, roles
from ondol.dialects.aws.names import LATEST, caller_arn, function_arn, partition
from ondol.dialects.aws.policy import Asked, Caller, Decision, Policy, decide
from ondol.dialects.aws.policy_words import Context
from ondol.model.functions import Function
from ondol.model.items import Item
from ondol.model.principals import Kind, Principal

#: Those who act in a role.
IN_ROLES: Final = frozenset({Kind.FUNCTION, Kind.SESSION})
#: What refusals call the policies of the role itself.
IDENTITY: Final = "identity-based policy"


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said of one request."""

    identity: Decision  #: by the caller's own policies, within what bounds them
    named: bool  #: whether the resource's policies let the caller in by name, or as anybody
    account: Decision  #: by the resource's policies, of the caller as one of its account too
    denied: bool  #: by any of them, or by what bounds the caller


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
        said = self._said(who, action, resource, list(own), context or {})
        if said.denied:
            return False
        if who.kind is Kind.ANONYMOUS:
            return said.named
        if who.account == account:
            return said.named or said.identity is Decision.ALLOWED
        return said.identity is Decision.ALLOWED and said.account is Decision.ALLOWED

    def may_assume(self, who: Principal, wanted: Item, context: Context) -> bool:
        """Whether `who` may take a role on: its trust must say so, and where that names an account, the identity's policies."""
        said = self._said(who, "sts:AssumeRole", wanted.value["Arn"], [roles.trust(wanted)], context)
        if said.denied:
            return False
        if said.named and who.account == wanted.account:
            return True
        return said.account is Decision.ALLOWED and said.identity is Decision.ALLOWED

    def why_not(self, who: Principal, action: str, resource: str, *, context: Context | None = None) -> str:
        """Why something was refused, as IAM puts it: which of the caller's policies denies it, or would have had to allow it.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
        """
        item = self._role(who)
        asked = Asked(action=action, resource=resource, context={**self._context(who, item), **(context or {})})
        found = [(IDENTITY, self._identity(who, item, asked))]
        found += [(kind, decide(each, asked)) for kind, each in self._bounding(who, item)]
        for kind, said in found:
            if said is Decision.DENIED:
                return f"with an explicit deny in {'an' if kind == IDENTITY else 'a'} {kind}"
        lacking = next((kind for kind, said in found if said is Decision.SILENT), IDENTITY)
        return errors.because_none(lacking, action)

    def _said(self, who: Principal, action: str, resource: str, own: Sequence[Policy], context: Context) -> _Said:
        item = self._role(who)
        asked = Asked(action=action, resource=resource, context={**self._context(who, item), **context})
        bounds = self._bounds(who, item, asked)
        identity = self._identity(who, item, asked)
        by_name, by_account = (
            decide(own, replace(asked, caller=self.caller(who, item, whole=whole))) for whole in (False, True)
        )
        named = by_name is Decision.ALLOWED and (bounds is Decision.ALLOWED or self._by_session(who, item, own, asked))
        denied = Decision.DENIED in (identity, bounds, by_account)
        within = bounds if identity is Decision.ALLOWED else identity
        return _Said(within, named, by_account, denied)

    def _by_session(self, who: Principal, item: Item | None, own: Sequence[Policy], asked: Asked) -> bool:
        """Whether the resource's policies name the very session, not its role."""
        if item is None:
            return False
        session = Caller(names=frozenset({self.arn(who)}), anybody=False)
        return decide(own, replace(asked, caller=session)) is Decision.ALLOWED

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
        """What the caller's own policies say."""
        if who.kind is Kind.OWNER:
            return Decision.ALLOWED
        return Decision.SILENT if item is None else decide(roles.policies(self._index, item), asked)

    def _bounds(self, who: Principal, item: Item | None, asked: Asked) -> Decision:
        """What the role's boundary and the session's own policies leave: each that is there must allow."""
        found = [decide(each, asked) for _, each in self._bounding(who, item)]
        if Decision.DENIED in found:
            return Decision.DENIED
        return Decision.SILENT if Decision.SILENT in found else Decision.ALLOWED

    def _bounding(self, who: Principal, item: Item | None) -> list[tuple[str, Iterable[Policy]]]:
        """What narrows the role's own policies, by what it is called."""
        boundary = item.value.get("Boundary") if item is not None else None
        bounds: list[tuple[str, Iterable[Policy]]] = []
        if boundary:
            bounds.append(("permissions boundary", roles.attached(self._index, boundary)))
        if who.scope:
            bounds.append(("session policy", roles.narrowing(self._index, who.scope)))
        return bounds

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
