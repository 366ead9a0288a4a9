"""Who may ask for an operation of the control plane, and with whose authority its handler then runs.

A caller in a role is weighed here, where the operation and its resource have their names in AWS's policies. Once it may, the
handler runs with its account's authority, as the service does, and `Context.caller` still says who asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.core.catalog import Index
from ondol.core.permit import permit
from ondol.dialects.aws import errors, roles
from ondol.dialects.aws.actions import action_of, named_action
from ondol.dialects.aws.auth import owner
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.policy_words import Context
from ondol.dialects.aws.resources import conditions_of, resource_of
from ondol.model.errors import Denied
from ondol.model.principals import Principal

#: Anybody may ask who they are; whom a role trusts is for AssumeRole itself to find out.
_FOR_ANYBODY: Final = frozenset({"GetCallerIdentity"})
_ASKED_BY_HANDLERS: Final = frozenset({("sts", "AssumeRole")})


class Access:
    """Shared by all services of the desk."""

    def __init__(self, index: Index, grants: Grants) -> None:
        self._index = index
        self.grants = grants

    def acting(self, who: Principal, service: str, operation: str, params: Mapping[str, Any], peer: str = "") -> Principal:
        """The principal whose authority the handler has. Raises AccessDeniedException."""
        if operation in _FOR_ANYBODY:
            return who
        if who.kind in IN_ROLES:
            if (service, operation) in _ASKED_BY_HANDLERS:
                return who
            action, resource = named_action(service, operation), self._resource(who, service, params)
            address = peer.rpartition(":")[0].strip("[]")
            told = {**conditions_of(service, params, who.account, who.region), **self._tags(service, resource)}
            if address:
                told["aws:sourceip"] = (address,)
            if not self.grants.may(who, action, resource, who.account, context=told):
                why = self.grants.why_not(who, action, resource, context=told)
                raise errors.not_authorized(self.grants.arn(who), action, resource, why)
            return owner(who.account, who.region, who.name)
        try:
            permit(who, action_of(service, operation), who.account)
        except Denied as error:
            raise errors.not_authorized(self.grants.arn(who), named_action(service, operation)) from error
        return who

    def _tags(self, service: str, resource: str) -> Context:
        """Those of the function that a request is about."""
        parts = resource.split(":")
        if service != "lambda" or len(parts) < 7 or parts[5] != "function":
            return {}
        function = self._index.handle(DIALECT, parts[4], parts[3], parts[6])
        return {f"aws:resourcetag/{key.lower()}": (value,) for key, value in function.tags.items()} if function else {}

    def _resource(self, who: Principal, service: str, params: Mapping[str, Any]) -> str:
        if service == "iam" and "RoleName" in params and "AssumeRolePolicyDocument" not in params:
            item = self._index.item(DIALECT, roles.ROLE, who.account, "", params["RoleName"])
            if item is not None:  # with its path
                return str(item.value["Arn"])
        return resource_of(service, params, who.account, who.region)
