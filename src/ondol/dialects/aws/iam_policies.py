"""IAM's managed policies of an account: their documents, in up to five versions of which one is in force."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from ondol.clock import Clock
from ondol.core.items import Items
from ondol.dialects.aws import roles
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.iam_parts import (
    Params,
    Read,
    absent,
    conflicting,
    encoded,
    page,
    parsed,
    tags_of,
    taken,
    too_many,
    unique_id,
)
from ondol.dialects.aws.policy import Kind
from ondol.dialects.aws.service import Context, Operations
from ondol.model.errors import AlreadyExists, NotFound
from ondol.model.items import Item

POLICIES_MAX: Final = 1500
VERSIONS_MAX: Final = 5


class ManagedPolicies:
    """The operations."""

    def __init__(self, items: Items, clock: Clock) -> None:
        self._items = items
        self._clock = clock

    def operations(self) -> Operations:
        return {
            "CreatePolicy": self.create,
            "GetPolicy": self.get,
            "ListPolicies": self.list,
            "DeletePolicy": self.delete,
            "CreatePolicyVersion": self.create_version,
            "GetPolicyVersion": self.get_version,
            "ListPolicyVersions": self.list_versions,
            "SetDefaultPolicyVersion": self.set_default,
            "DeletePolicyVersion": self.delete_version,
        }

    async def create(self, context: Context, params: Params) -> Params:
        name, path, now_s = params["PolicyName"], params.get("Path") or "/", self._clock.wall_s()
        text = parsed(params["PolicyDocument"], Kind.IDENTITY)
        value = {
            "Arn": f"arn:aws:iam::{context.account}:policy{path}{name}", "Path": path, "PolicyId": unique_id("ANPA"),
            "CreateDate": now_s, "UpdateDate": now_s, "Description": params.get("Description") or "",
            "Tags": tags_of(params.get("Tags") or []),
            "Versions": {"v1": {"Document": text, "CreateDate": now_s}}, "Default": "v1", "Next": 2,
        }  # fmt: skip
        item = Item(dialect=DIALECT, kind=roles.POLICY, account=context.account, region="", name=name, value=value)
        try:
            await self._items.create(item, items_max=POLICIES_MAX)
        except AlreadyExists as error:
            raise taken(f"A policy called {name} already exists. Duplicate names are not allowed.") from error
        except OverflowError as error:
            raise too_many("PoliciesPerAccount", POLICIES_MAX) from error
        return {"Policy": self._shown(item)}

    async def get(self, context: Context, params: Params) -> Params:
        return {"Policy": self._shown(self._readable(context, params), whole=True)}

    async def list(self, context: Context, params: Params) -> Params:
        prefix = params.get("PathPrefix") or "/"
        scope, found = params.get("Scope") or "All", list[Item]()
        if scope != "AWS":
            found += self._items.index.items(DIALECT, roles.POLICY, context.account, "")
        if scope != "Local":
            found += [_of_aws(context, arn) for arn in roles.known_of_aws()]
        found.sort(key=lambda each: each.value["Arn"])
        shown = [(each.value["Arn"], self._shown(each)) for each in found if each.value["Path"].startswith(prefix)]
        if params.get("OnlyAttached"):
            shown = [entry for entry in shown if entry[1]["AttachmentCount"]]
        return page(params, "Policies", shown)

    async def delete(self, context: Context, params: Params) -> Params:
        def check(item: Item) -> None:
            if self._attachments(item):
                raise conflicting("Cannot delete a policy attached to entities.")
            if len(item.value["Versions"]) > 1:
                raise conflicting(
                    "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. "
                    "The default version is deleted with the policy."
                )

        await self._items.delete(self._policy(context, params), check)
        return {}

    # Versions --------------------------------------------------------------------------------------------------------
    async def create_version(self, context: Context, params: Params) -> Params:
        text, now_s = parsed(params["PolicyDocument"], Kind.IDENTITY), self._clock.wall_s()

        def add(value: Read) -> Params:
            if len(value["Versions"]) >= VERSIONS_MAX:
                raise too_many("PolicyVersions", VERSIONS_MAX)
            name = f"v{value['Next']}"
            versions = {**value["Versions"], name: {"Document": text, "CreateDate": now_s}}
            default = name if params.get("SetAsDefault") else value["Default"]
            return {**value, "Versions": versions, "Next": value["Next"] + 1, "Default": default, "UpdateDate": now_s}

        changed = await self._change(context, params, add)
        return {"PolicyVersion": _version(changed, f"v{changed.value['Next'] - 1}")}

    async def get_version(self, context: Context, params: Params) -> Params:
        item = self._readable(context, params)
        _check_version(item.value, params)
        return {"PolicyVersion": _version(item, params["VersionId"], whole=True)}

    async def list_versions(self, context: Context, params: Params) -> Params:
        item = self._readable(context, params)
        newest_first = sorted(item.value["Versions"], key=lambda name: -int(name[1:]))
        return page(params, "Versions", [(f"{at:03d}", _version(item, name)) for at, name in enumerate(newest_first)])

    async def set_default(self, context: Context, params: Params) -> Params:
        def choose(value: Read) -> Params:
            _check_version(value, params)
            return {**value, "Default": params["VersionId"]}

        await self._change(context, params, choose)
        return {}

    async def delete_version(self, context: Context, params: Params) -> Params:
        def drop(value: Read) -> Params:
            _check_version(value, params)
            if value["Default"] == params["VersionId"]:
                raise conflicting("Cannot delete the default version of a policy.")
            left = {name: each for name, each in value["Versions"].items() if name != params["VersionId"]}
            return {**value, "Versions": left}

        await self._change(context, params, drop)
        return {}

    # Within ----------------------------------------------------------------------------------------------------------
    def _policy(self, context: Context, params: Params) -> Item:
        arn = params["PolicyArn"]
        item = roles.managed(self._items.index, arn)
        if item is None or item.account != context.account:
            raise absent(f"Policy {arn} was not found.")
        return item

    def _readable(self, context: Context, params: Params) -> Item:
        """A policy that can be looked at: one of the account's, or of AWS's own as far as they say something here."""
        known = roles.is_of_aws(params["PolicyArn"]) and roles.document_of_aws(params["PolicyArn"]) is not None
        return _of_aws(context, params["PolicyArn"]) if known else self._policy(context, params)

    async def _change(self, context: Context, params: Params, make: Any) -> Item:
        item = self._policy(context, params)
        try:
            return await self._items.change(item, lambda current: replace(current, value=make(current.value)))
        except NotFound as error:
            raise absent(f"Policy {params['PolicyArn']} was not found.") from error

    def _attachments(self, item: Item) -> int:
        """How many roles it is attached to."""
        arn = item.value["Arn"]
        return sum(arn in role.value["Attached"] for role in self._items.index.items(DIALECT, roles.ROLE, item.account, ""))

    def _shown(self, item: Item, *, whole: bool = False) -> Params:
        value = item.value
        shown: Params = {
            "PolicyName": item.name,
            "PolicyId": value["PolicyId"],
            "Arn": value["Arn"],
            "Path": value["Path"],
            "DefaultVersionId": value["Default"],
            "AttachmentCount": self._attachments(item),
            "PermissionsBoundaryUsageCount": 0,
            "IsAttachable": True,
            "CreateDate": datetime.fromtimestamp(value["CreateDate"], UTC),
            "UpdateDate": datetime.fromtimestamp(value["UpdateDate"], UTC),
        }
        if whole and value["Description"]:
            shown["Description"] = value["Description"]
        if whole and value["Tags"]:
            shown["Tags"] = [{"Key": key, "Value": each} for key, each in sorted(value["Tags"].items())]
        return shown


def _of_aws(context: Context, arn: str) -> Item:
    """One of AWS's own policies that says something here, as if it were the account's."""
    path, _, name = arn.partition(":policy")[2].rpartition("/")
    digest = base64.b32encode(hashlib.sha256(arn.encode()).digest()).decode()
    value = {
        "Arn": arn, "Path": f"{path}/", "PolicyId": f"ANPA{digest[:17]}", "CreateDate": 0.0, "UpdateDate": 0.0,
        "Description": "", "Tags": {}, "Versions": {"v1": {"Document": roles.document_of_aws(arn), "CreateDate": 0.0}},
        "Default": "v1",
    }  # fmt: skip
    return Item(dialect=DIALECT, kind=roles.POLICY, account=context.account, region="", name=name, value=value)


def _check_version(value: Read, params: Params) -> None:
    if params["VersionId"] not in value["Versions"]:
        text = f"Policy {params['PolicyArn']} version {params['VersionId']} does not exist or is not attachable."
        raise absent(text)


def _version(item: Item, name: str, *, whole: bool = False) -> Params:
    version = item.value["Versions"][name]
    shown: Params = {
        "VersionId": name,
        "IsDefaultVersion": item.value["Default"] == name,
        "CreateDate": datetime.fromtimestamp(version["CreateDate"], UTC),
    }
    return {"Document": encoded(version["Document"]), **shown} if whole else shown
