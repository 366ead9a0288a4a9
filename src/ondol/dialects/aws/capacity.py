"""Capacity providers: Create, Get, List, Update, Delete, ListFunctionVersionsByCapacityProvider.

There are no instances to launch here, and no networks or types of them to choose: a provider is a name that functions are
attached to, by which their versions run several calls in one environment (`managed.py`). What it says of instances, their
number among it, is kept and shown; the machine is what there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.core.deploy import TAGS_MAX, Deployments
from ondol.core.permit import permit
from ondol.dialects.aws import managed, passing, refusals
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.managed import KIND
from ondol.dialects.aws.names import place, version_name
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import arn, last_modified, state
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.errors import AlreadyExists, NotFound
from ondol.model.items import Item

Params = dict[str, Any]

LISTED_MAX: Final = 50
PROVIDERS_MAX: Final = 1000
#: What the service gives where nothing is said.
_VCPUS_MAX: Final = 400
_AUTO: Final = "Auto"
_CHANGED: Final = ("CapacityProviderScalingConfig", "PropagateTags", "TelemetryConfig")
_KEPT: Final = ("VpcConfig", "PermissionsConfig", "InstanceRequirements", "KmsKeyArn", *_CHANGED)


class Capacity:
    """The handlers."""

    def __init__(self, deployments: Deployments, grants: Grants) -> None:
        self._deployments = deployments
        self._grants = grants

    def operations(self) -> Operations:
        return {
            "CreateCapacityProvider": self.create,
            "GetCapacityProvider": self.get,
            "ListCapacityProviders": self.list_providers,
            "UpdateCapacityProvider": self.update,
            "DeleteCapacityProvider": self.delete,
            "ListFunctionVersionsByCapacityProvider": self.list_versions,
        }

    async def create(self, context: Context, params: Params) -> Params:
        _permit(context, "CreateCapacityProvider")
        given = {member: params[member] for member in _KEPT if params.get(member) is not None}
        value: Params = {
            "InstanceRequirements": {"Architectures": ["x86_64"]},
            **given,
            "CapacityProviderScalingConfig": _scaling({"MaxVCpuCount": _VCPUS_MAX, "ScalingMode": _AUTO}, given),
            "Tags": refusals.tags_of(params),
            "LastModified": self._deployments.wall_s(),
        }
        _check_instances(value["InstanceRequirements"])
        if len(value["Tags"]) > TAGS_MAX:
            raise refusals.invalid("Number of tags exceeds resource tag limit.")
        role = value["PermissionsConfig"]["CapacityProviderOperatorRoleArn"]
        passing.check(context, self._deployments.index, self._grants, role)
        item = replace(self._key(context, _name(context, params)), value=value)
        try:
            await self._deployments.items.create(item, items_max=PROVIDERS_MAX)
        except AlreadyExists as error:
            raise refusals.conflict(f"Capacity provider already exists: {managed.provider_arn(item)}") from error
        except OverflowError as error:
            text = f"The maximum number of capacity providers ({PROVIDERS_MAX}) for your account has been exceeded."
            raise ServiceError("CapacityProviderLimitExceededException", text, status=400, extra={"Type": "User"}) from error
        return {"CapacityProvider": _shown(item, "Pending")}

    async def get(self, context: Context, params: Params) -> Params:
        return {"CapacityProvider": _shown(self._item(context, "GetCapacityProvider", params))}

    async def list_providers(self, context: Context, params: Params) -> Params:
        _permit(context, "ListCapacityProviders")
        items = self._deployments.index.items(DIALECT, KIND, context.account, context.region)
        there = items if params.get("State") in (None, "Active") else []

        def after(position: str) -> Iterator[tuple[str, Params]]:
            return ((item.name, _shown(item)) for item in there if item.name > position)

        found, marker = page(params, after, LISTED_MAX, operation="ListCapacityProviders")
        return {"CapacityProviders": found, **({"NextMarker": marker} if marker else {})}

    async def update(self, context: Context, params: Params) -> Params:
        item = self._item(context, "UpdateCapacityProvider", params)
        given = {member: params[member] for member in _CHANGED if params.get(member) is not None}

        def change(now: Item) -> Item:
            scaling = _scaling(now.value["CapacityProviderScalingConfig"], given)
            return replace(
                now,
                value={
                    **now.value, **given, "CapacityProviderScalingConfig": scaling,
                    "LastModified": self._deployments.wall_s(),
                },
            )  # fmt: skip

        try:
            changed = await self._deployments.items.change(item, change)
        except NotFound as error:
            raise managed.absent(managed.provider_arn(item)) from error
        return {"CapacityProvider": _shown(changed)}

    async def delete(self, context: Context, params: Params) -> Params:
        item = self._item(context, "DeleteCapacityProvider", params)

        def check(now: Item) -> None:
            if any(managed.attached(self._deployments.index, managed.provider_arn(now))):
                raise refusals.conflict(
                    f"The capacity provider {managed.provider_arn(now)} is in use by function versions. "
                    "Delete them first (ListFunctionVersionsByCapacityProvider names them)."
                )

        await self._deployments.items.delete(item, check)
        return {"CapacityProvider": _shown(item, "Deleting")}

    async def list_versions(self, context: Context, params: Params) -> Params:
        item = self._item(context, "ListFunctionVersionsByCapacityProvider", params)

        def after(position: str) -> Iterator[tuple[str, Params]]:
            return ((at, shown) for at, shown in self._versions(managed.provider_arn(item)) if at > position)

        found, marker = page(params, after, LISTED_MAX, operation="ListFunctionVersionsByCapacityProvider")
        return {
            "CapacityProviderArn": managed.provider_arn(item),
            "FunctionVersions": found,
            **({"NextMarker": marker} if marker else {}),
        }

    # Within ----------------------------------------------------------------------------------------------------------------
    def _versions(self, provider: str) -> list[tuple[str, Params]]:
        """By name, and then as versions stand in listings."""
        found = []
        for function, number in managed.attached(self._deployments.index, provider):
            deployed = self._deployments.latest(function) if number is None else self._deployments.version(function, number)
            shown = {"FunctionArn": arn(function, version_name(number)), "State": state(deployed)["State"]}
            found.append((f"{function.name}:{place(number):010d}", shown))
        return sorted(found, key=lambda entry: entry[0])

    def _key(self, context: Context, name: str) -> Item:
        return Item(dialect=DIALECT, kind=KIND, account=context.account, region=context.region, name=name)

    def _item(self, context: Context, operation: str, params: Params) -> Item:
        _permit(context, operation)
        key = self._key(context, _name(context, params))
        item = self._deployments.index.item(DIALECT, KIND, key.account, key.region, key.name)
        if item is None:
            raise managed.absent(managed.provider_arn(key))
        return item


def _name(context: Context, params: Params) -> str:
    """A name, or an ARN of the caller's own account and region."""
    given = str(params["CapacityProviderName"])
    if not given.startswith("arn:"):
        return given
    region, account, _, name = given.split(":")[3:]
    if (account, region) != (context.account, context.region):
        raise managed.absent(given)
    return name


def _scaling(before: Mapping[str, Any], given: Mapping[str, Any]) -> Params:
    scaling = {**before, **(given.get("CapacityProviderScalingConfig") or {})}
    if scaling["ScalingMode"] == _AUTO and (given.get("CapacityProviderScalingConfig") or {}).get("ScalingPolicies"):
        raise refusals.invalid("A scaling policy can't be specified when the scalingMode is set to Auto")
    if scaling["ScalingMode"] == _AUTO:
        scaling.pop("ScalingPolicies", None)
    elif not scaling.get("ScalingPolicies"):
        raise refusals.invalid("A scaling policy must be specified when the scalingMode is set to Manual")
    return scaling


def _check_instances(wanted: Mapping[str, Any]) -> None:
    if wanted.get("AllowedInstanceTypes") and wanted.get("ExcludedInstanceTypes"):
        raise refusals.invalid("AllowedInstanceTypes and ExcludedInstanceTypes can't be specified together")


def _shown(item: Item, state: str = "Active") -> Params:
    kept = {member: item.value[member] for member in _KEPT if member in item.value}
    return {
        "CapacityProviderArn": managed.provider_arn(item),
        "State": state,
        **kept,
        "LastModified": last_modified(item.value["LastModified"]),
    }


def _permit(context: Context, operation: str) -> None:
    permit(context.principal, action_of("lambda", operation), context.account)
