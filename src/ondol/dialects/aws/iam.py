"""IAM, as much as functions need: roles with whom they trust and what they may, and an account's managed policies.

Users, groups, keys and all else of the service are not built: a node's keys are made with `ondol key create`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from ondol.clock import Clock
from ondol.core.items import Items
from ondol.dialects.aws import iam_policies, roles
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.iam_parts import (
    TAGS_MAX,
    Params,
    Read,
    absent,
    conflicting,
    encoded,
    page,
    parsed,
    tagged,
    tags_of,
    taken,
    too_many,
    unique_id,
    without,
)
from ondol.dialects.aws.policy import Kind
from ondol.dialects.aws.service import Context, Operations
from ondol.model.errors import AlreadyExists, NotFound
from ondol.model.items import Item

ROLES_MAX: Final = 1000
SESSION_S_MAX: Final = 3600
ATTACHED_MAX: Final = 20


class Iam:
    """The operations on roles; those on managed policies are `iam_policies`'."""

    def __init__(self, items: Items, clock: Clock) -> None:
        self._items = items
        self._clock = clock
        self._policies = iam_policies.ManagedPolicies(items, clock)

    def operations(self) -> Operations:
        """By name."""
        return {
            "CreateRole": self.create,
            "GetRole": self.get,
            "ListRoles": self.list,
            "DeleteRole": self.delete,
            "UpdateRole": self.update,
            "UpdateAssumeRolePolicy": self.update_trust,
            "TagRole": self.tag,
            "UntagRole": self.untag,
            "ListRoleTags": self.list_tags,
            "PutRolePolicy": self.put_policy,
            "GetRolePolicy": self.get_policy,
            "ListRolePolicies": self.list_policies,
            "DeleteRolePolicy": self.delete_policy,
            "AttachRolePolicy": self.attach,
            "DetachRolePolicy": self.detach,
            "ListAttachedRolePolicies": self.list_attached,
            "PutRolePermissionsBoundary": self.put_boundary,
            "DeleteRolePermissionsBoundary": self.delete_boundary,
            "ListInstanceProfilesForRole": self.list_instance_profiles,
            **self._policies.operations(),
        }

    # Roles -----------------------------------------------------------------------------------------------------------
    async def create(self, context: Context, params: Params) -> Params:
        name, path = params["RoleName"], params.get("Path") or "/"
        trust = parsed(params["AssumeRolePolicyDocument"], Kind.TRUST)
        tags = tags_of(params.get("Tags") or [])
        if len(tags) > TAGS_MAX:
            raise too_many("TagsPerRole", TAGS_MAX)
        arn = f"arn:aws:iam::{context.account}:role{path}{name}"
        value = {
            "Arn": arn, "Path": path, "RoleId": unique_id("AROA"), "CreateDate": self._clock.wall_s(), "Trust": trust,
            "Description": params.get("Description") or "",
            "MaxSessionDuration": params.get("MaxSessionDuration", SESSION_S_MAX), "Tags": tags, "Inline": {}, "Attached": [],
        }  # fmt: skip
        if params.get("PermissionsBoundary"):
            value["Boundary"] = self._attachable(params["PermissionsBoundary"])
        item = replace(self._key(context, name), value=value)
        try:
            await self._items.create(item, items_max=ROLES_MAX)
        except AlreadyExists as error:
            raise taken(f"Role with name {name} already exists.") from error
        except OverflowError as error:
            raise too_many("RolesPerAccount", ROLES_MAX) from error
        return {"Role": _shown(item, whole=True)}

    async def get(self, context: Context, params: Params) -> Params:
        return {"Role": _shown(self._role(context, params), whole=True)}

    async def list(self, context: Context, params: Params) -> Params:
        prefix = params.get("PathPrefix") or "/"
        found = self._items.index.items(DIALECT, roles.ROLE, context.account, "")
        return page(params, "Roles", [(each.name, _shown(each)) for each in found if each.value["Path"].startswith(prefix)])

    async def delete(self, context: Context, params: Params) -> Params:
        def check(item: Item) -> None:
            if item.value["Inline"]:
                raise conflicting("Cannot delete entity, must delete policies first.")
            if item.value["Attached"]:
                raise conflicting("Cannot delete entity, must detach all policies first.")

        await self._items.delete(self._role(context, params), check)
        return {}

    async def update(self, context: Context, params: Params) -> Params:
        changes = {member: params[member] for member in ("Description", "MaxSessionDuration") if member in params}
        await self._change(context, params, lambda value: {**value, **changes})
        return {}

    async def update_trust(self, context: Context, params: Params) -> Params:
        self._role(context, params)
        trust = parsed(params["PolicyDocument"], Kind.TRUST)
        await self._change(context, params, lambda value: {**value, "Trust": trust})
        return {}

    async def tag(self, context: Context, params: Params) -> Params:
        await self._change(context, params, lambda value: tagged(value, params["Tags"]))
        return {}

    async def untag(self, context: Context, params: Params) -> Params:
        await self._change(context, params, lambda value: without(value, "Tags", *params["TagKeys"]))
        return {}

    async def list_tags(self, context: Context, params: Params) -> Params:
        tags = self._role(context, params).value["Tags"]
        return page(params, "Tags", [(key, {"Key": key, "Value": tags[key]}) for key in sorted(tags)])

    async def list_instance_profiles(self, context: Context, params: Params) -> Params:
        """None: nothing here is an instance. Tools ask before they delete a role."""
        self._role(context, params)
        return page(params, "InstanceProfiles", [])

    # What a role may -------------------------------------------------------------------------------------------------
    async def put_policy(self, context: Context, params: Params) -> Params:
        self._role(context, params)
        text = parsed(params["PolicyDocument"], Kind.IDENTITY)
        name = params["PolicyName"]
        await self._change(context, params, lambda value: {**value, "Inline": {**value["Inline"], name: text}})
        return {}

    async def get_policy(self, context: Context, params: Params) -> Params:
        name = params["PolicyName"]
        text = self._role(context, params).value["Inline"].get(name)
        if text is None:
            raise absent(f"The role policy with name {name} cannot be found.")
        return {"RoleName": params["RoleName"], "PolicyName": name, "PolicyDocument": encoded(text)}

    async def list_policies(self, context: Context, params: Params) -> Params:
        names = sorted(self._role(context, params).value["Inline"])
        return page(params, "PolicyNames", [(name, name) for name in names])

    async def delete_policy(self, context: Context, params: Params) -> Params:
        name = params["PolicyName"]
        if name not in self._role(context, params).value["Inline"]:
            raise absent(f"The role policy with name {name} cannot be found.")
        await self._change(context, params, lambda value: without(value, "Inline", name))
        return {}

    async def attach(self, context: Context, params: Params) -> Params:
        self._role(context, params)
        arn = self._attachable(params["PolicyArn"])

        def attach(value: Read) -> Params:
            attached = [*value["Attached"], *([] if arn in value["Attached"] else [arn])]
            if len(attached) > ATTACHED_MAX:
                raise too_many("PoliciesPerRole", ATTACHED_MAX)
            return {**value, "Attached": attached}

        await self._change(context, params, attach)
        return {}

    async def detach(self, context: Context, params: Params) -> Params:
        arn = params["PolicyArn"]
        if arn not in self._role(context, params).value["Attached"]:
            raise absent(f"Policy {arn} was not found.")
        await self._change(
            context, params, lambda value: {**value, "Attached": [each for each in value["Attached"] if each != arn]}
        )
        return {}

    async def list_attached(self, context: Context, params: Params) -> Params:
        attached = self._role(context, params).value["Attached"]
        shown = [(arn, {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn}) for arn in sorted(attached)]
        return page(params, "AttachedPolicies", shown)

    async def put_boundary(self, context: Context, params: Params) -> Params:
        self._role(context, params)
        arn = self._attachable(params["PermissionsBoundary"])
        await self._change(context, params, lambda value: {**value, "Boundary": arn})
        return {}

    async def delete_boundary(self, context: Context, params: Params) -> Params:
        if "Boundary" not in self._role(context, params).value:
            raise absent(f"Role {params['RoleName']} does not have PermissionsBoundary attached.")
        await self._change(context, params, lambda value: {key: each for key, each in value.items() if key != "Boundary"})
        return {}

    # Within ----------------------------------------------------------------------------------------------------------
    def _key(self, context: Context, name: str) -> Item:
        return Item(dialect=DIALECT, kind=roles.ROLE, account=context.account, region="", name=name)

    def _role(self, context: Context, params: Params) -> Item:
        name = params["RoleName"]
        item = self._items.index.item(DIALECT, roles.ROLE, context.account, "", name)
        if item is None:
            raise absent(f"The role with name {name} cannot be found.")
        return item

    def _attachable(self, arn: str) -> str:
        if not roles.is_of_aws(arn) and roles.managed(self._items.index, arn) is None:
            raise absent(f"Policy {arn} does not exist or is not attachable.")
        return arn

    async def _change(self, context: Context, params: Params, make: Any) -> None:
        try:
            await self._items.change(self._role(context, params), lambda item: replace(item, value=make(item.value)))
        except NotFound as error:
            raise absent(f"The role with name {params['RoleName']} cannot be found.") from error


def _shown(item: Item, *, whole: bool = False) -> Params:
    """As GetRole shows it; `whole`: with what listings leave out."""
    value = item.value
    shown: Params = {
        "Path": value["Path"],
        "RoleName": item.name,
        "RoleId": value["RoleId"],
        "Arn": value["Arn"],
        "CreateDate": datetime.fromtimestamp(value["CreateDate"], UTC),
        "AssumeRolePolicyDocument": encoded(value["Trust"]),
        "MaxSessionDuration": value["MaxSessionDuration"],
    }
    if value["Description"]:
        shown["Description"] = value["Description"]
    if whole and value["Tags"]:
        shown["Tags"] = [{"Key": key, "Value": each} for key, each in sorted(value["Tags"].items())]
    if whole and value.get("Boundary"):
        shown["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": value["Boundary"]}
    return shown
