"""Code signing configurations, and which functions have one.

Nothing that is deployed here is signed, so a configuration whose policy is Enforce lets no code in: that is what it says.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.core.catalog import Index
from ondol.core.deploy import Deployments
from ondol.core.permit import permit
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import arn, last_modified
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.errors import NotFound
from ondol.model.functions import Function
from ondol.model.items import Item

Params = dict[str, Any]
Read = Mapping[str, Any]

KIND: Final = "code-signing-config"
LISTED_MAX: Final = 50
_WARN: Final = {"UntrustedArtifactOnDeployment": "Warn"}
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


class CodeSigning:
    """The handlers."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "CreateCodeSigningConfig": self.create,
            "GetCodeSigningConfig": self.get,
            "UpdateCodeSigningConfig": self.update,
            "DeleteCodeSigningConfig": self.delete,
            "ListCodeSigningConfigs": self.list_configs,
            "ListFunctionsByCodeSigningConfig": self.list_functions,
            "PutFunctionCodeSigningConfig": self.bind,
            "GetFunctionCodeSigningConfig": self.bound,
            "DeleteFunctionCodeSigningConfig": self.unbind,
        }

    async def create(self, context: Context, params: Params) -> Params:
        _permit(context, "CreateCodeSigningConfig")
        value: Params = {
            "Description": params.get("Description") or "",
            "AllowedPublishers": params["AllowedPublishers"],
            "CodeSigningPolicies": params.get("CodeSigningPolicies") or dict(_WARN),
            "LastModified": last_modified(self._deployments.wall_s()),
            "Tags": refusals.tags_of(params),
        }
        name = "csc-" + "".join(secrets.choice(_LETTERS) for _ in range(17))
        item = Item(dialect=DIALECT, kind=KIND, account=context.account, region=context.region, name=name, value=value)
        await self._deployments.items.create(item)
        return {"CodeSigningConfig": _shown(item)}

    async def get(self, context: Context, params: Params) -> Params:
        return {"CodeSigningConfig": _shown(self._item(context, "GetCodeSigningConfig", params))}

    async def update(self, context: Context, params: Params) -> Params:
        item = self._item(context, "UpdateCodeSigningConfig", params)
        members = ("Description", "AllowedPublishers", "CodeSigningPolicies")
        changes = {member: params[member] for member in members if params.get(member) is not None}
        changes["LastModified"] = last_modified(self._deployments.wall_s())
        try:
            changed = await self._deployments.items.change(item, lambda now: replace(now, value={**now.value, **changes}))
        except NotFound as error:
            raise absent(config_arn(item)) from error
        return {"CodeSigningConfig": _shown(changed)}

    async def delete(self, context: Context, params: Params) -> Params:
        item = self._item(context, "DeleteCodeSigningConfig", params)
        if self._users(item):
            raise refusals.conflict(
                f"The code signing configuration {config_arn(item)} is in use: detach it from its functions first "
                "(ListFunctionsByCodeSigningConfig names them)."
            )
        await self._deployments.items.delete(item)
        return {}

    async def list_configs(self, context: Context, params: Params) -> Params:
        _permit(context, "ListCodeSigningConfigs")
        items = self._deployments.index.items(DIALECT, KIND, context.account, context.region)

        def after(position: str) -> Iterator[tuple[str, Params]]:
            return ((item.name, _shown(item)) for item in items if item.name > position)

        found, marker = page(params, after, LISTED_MAX, operation="ListCodeSigningConfigs")
        return {"CodeSigningConfigs": found, **({"NextMarker": marker} if marker else {})}

    async def list_functions(self, context: Context, params: Params) -> Params:
        item = self._item(context, "ListFunctionsByCodeSigningConfig", params)
        users = sorted(self._users(item), key=lambda function: function.name)

        def after(position: str) -> Iterator[tuple[str, str]]:
            return ((function.name, arn(function)) for function in users if function.name > position)

        found, marker = page(params, after, LISTED_MAX, operation="ListFunctionsByCodeSigningConfig")
        return {"FunctionArns": found, **({"NextMarker": marker} if marker else {})}

    # Of functions ----------------------------------------------------------------------------------------------------------
    async def bind(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "PutFunctionCodeSigningConfig", params)
        wanted = params["CodeSigningConfigArn"]
        check(self._deployments.index, context, wanted)
        await self._annotate(function, wanted)
        return {"CodeSigningConfigArn": wanted, "FunctionName": function.name}

    async def bound(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "GetFunctionCodeSigningConfig", params)
        kept = config_of(function)
        return {"CodeSigningConfigArn": kept, "FunctionName": function.name} if kept else {}

    async def unbind(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "DeleteFunctionCodeSigningConfig", params)
        await self._annotate(function, None)
        return {}

    # Within ----------------------------------------------------------------------------------------------------------------
    def _item(self, context: Context, operation: str, params: Params) -> Item:
        _permit(context, operation)
        wanted = params["CodeSigningConfigArn"]
        item = find(self._deployments.index, wanted)
        if item is None or (item.account, item.region) != (context.account, context.region):
            raise absent(wanted)
        return item

    def _users(self, item: Item) -> list[Function]:
        wanted = config_arn(item)
        return [function for function in self._deployments.index.functions() if config_of(function) == wanted]

    async def _annotate(self, function: Function, wanted: str | None) -> None:
        def change(own: Read) -> Read:
            kept = {member: value for member, value in own.items() if member != "CodeSigningConfigArn"}
            return {**kept, "CodeSigningConfigArn": wanted} if wanted else kept

        with self._lookup.changing(function):
            await self._deployments.annotate(function.id, DIALECT, change)


def find(index: Index, wanted: str) -> Item | None:
    """The configuration that an ARN names."""
    parts = wanted.split(":")
    return index.item(DIALECT, KIND, parts[4], parts[3], parts[6]) if len(parts) == 7 else None


def config_arn(item: Item) -> str:
    return f"arn:{names.partition(item.region)}:lambda:{item.region}:{item.account}:{KIND}:{item.name}"


def config_of(function: Function) -> str | None:
    """The ARN of a function's configuration."""
    kept: str | None = function.annotations.get(DIALECT, {}).get("CodeSigningConfigArn")
    return kept


def check(index: Index, context: Context, wanted: str) -> Item:
    """The configuration that a function is to have. Raises CodeSigningConfigNotFoundException."""
    item = find(index, wanted)
    if item is None or (item.account, item.region) != (context.account, context.region):
        text = (
            f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {wanted}."
        )
        raise ServiceError(
            "CodeSigningConfigNotFoundException", text, status=404, extra={"Type": "User"}, message_key="Message"
        )
    return item


def admit(item: Item | None, function_name: str) -> None:
    """Raise CodeVerificationFailedException where a configuration lets no unsigned code in."""
    if item is not None and item.value["CodeSigningPolicies"].get("UntrustedArtifactOnDeployment") == "Enforce":
        text = (
            "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not "
            f"configured to accept. Check the provided signature for {function_name}."
        )
        raise ServiceError("CodeVerificationFailedException", text, status=400, extra={"Type": "User"})


def absent(wanted: str) -> ServiceError:
    text = f"The Lambda code signing configuration {wanted} can not be found."
    return ServiceError("ResourceNotFoundException", text, status=404, message_key="Message")


def _permit(context: Context, operation: str) -> None:
    permit(context.principal, action_of("lambda", operation), context.account)


def _shown(item: Item) -> Params:
    value = item.value
    shown: Params = {
        "CodeSigningConfigId": item.name,
        "CodeSigningConfigArn": config_arn(item),
        "AllowedPublishers": value["AllowedPublishers"],
        "CodeSigningPolicies": value["CodeSigningPolicies"],
        "LastModified": value["LastModified"],
    }
    return {**shown, "Description": value["Description"]} if value["Description"] else shown
