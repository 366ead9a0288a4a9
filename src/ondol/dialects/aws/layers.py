"""Layers: versions of archives that functions show at /opt, in order, with a policy each for other accounts.

A layer's counter never goes back, so that a number once deleted does not come again. What functions use is merged at deploy
(`Deployments.merge`), so a deleted version goes on working where it is in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.core.permit import permit
from ondol.dialects.aws import configuration, errors, policy, refusals, statements
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.names import partition
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.policy import Kind
from ondol.dialects.aws.rendering import code_sha256, last_modified
from ondol.dialects.aws.resources import layer_arn
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.dialects.aws.uploads import LAYER_VERSION, CodeUrl, Uploads
from ondol.model.errors import AlreadyExists, NotFound
from ondol.model.functions import Code, Configuration
from ondol.model.items import Item
from ondol.model.limits import CODE_UNPACKED_BYTES_MAX

Params = dict[str, Any]
Read = Mapping[str, Any]

LISTED_MAX: Final = 50
_LAYER: Final = "layer"
_ARN: Final = re.compile(r"arn:aws[a-zA-Z-]*:lambda:([a-z0-9-]+):(\d{12}):layer:([a-zA-Z0-9-_]+)(?::(\d+))?", re.ASCII)
#: A version that no layer has; longer numbers are not made numbers of.
_DIGITS_MAX: Final = 18


@dataclass(frozen=True, slots=True)
class Named:
    """A layer, or one of its versions, as a client named it."""

    account: str
    region: str
    name: str
    version: int | None = None

    @property
    def arn(self) -> str:
        return layer_arn(self.account, self.region, self.name, self.version)


class Layers:
    """The handlers, and what functions need of layers."""

    def __init__(self, deployments: Deployments, uploads: Uploads, code_url: CodeUrl, grants: Grants) -> None:
        self.grants = grants
        self._deployments = deployments
        self._uploads = uploads
        self._code_url = code_url

    def operations(self) -> Operations:
        return {
            "PublishLayerVersion": self.publish,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "ListLayers": self.list_layers,
            "ListLayerVersions": self.list_versions,
            "DeleteLayerVersion": self.delete,
            "AddLayerVersionPermission": self.add_permission,
            "RemoveLayerVersionPermission": self.remove_permission,
            "GetLayerVersionPolicy": self.get_policy,
        }

    # Versions ------------------------------------------------------------------------------------------------------------
    async def publish(self, context: Context, params: Params) -> Params:
        named = self._own(context, "PublishLayerVersion", params)
        code = await self._uploads.take(context, params["Content"], account=named.account, region=named.region)
        number = await self._next(named)
        value = {
            "Description": params.get("Description") or "",
            "CreatedDate": last_modified(self._deployments.wall_s()),
            "CodeSize": code.zipped_bytes,
            "Unpacked": code.unpacked_bytes,
            "Asks": list(code.asks),
            "Minds": code.minds,
            "Extensions": list(code.extensions),
            **{member: params[member] for member in _KEPT if params.get(member)},
        }
        item = self._item(replace(named, version=number))
        await self._deployments.items.create(replace(item, value=value, codes=(code.sha256,)))
        return self._shown(context, replace(item, value=value, codes=(code.sha256,)))

    async def get(self, context: Context, params: Params) -> Params:
        _permit(context, "GetLayerVersion")
        named = self._named(context, params)
        self._let_in(context, named)
        return self._shown(context, self._there(named))

    async def get_by_arn(self, context: Context, params: Params) -> Params:
        _permit(context, "GetLayerVersionByArn")
        named = _parsed(params["Arn"])
        self._let_in(context, named)
        if named.region != context.region:
            raise refusals.not_found(f"Layer version {named.arn} does not exist.")
        return self._shown(context, self._there(named))

    async def list_layers(self, context: Context, params: Params) -> Params:
        _permit(context, "ListLayers")
        index = self._deployments.index

        def after(position: str) -> Iterator[tuple[str, Params]]:
            for layer in index.items(DIALECT, _LAYER, context.account, context.region):
                if layer.name <= position:
                    continue
                named = Named(context.account, context.region, layer.name)
                newest = next((each for each in self._versions(named) if _matches(each, params)), None)
                if newest is not None:
                    yield layer.name, {
                        "LayerName": layer.name, "LayerArn": named.arn, "LatestMatchingVersion": _listed(newest),
                    }  # fmt: skip

        items, marker = page(params, after, LISTED_MAX, operation="ListLayers")
        return {"Layers": items, **({"NextMarker": marker} if marker else {})}

    async def list_versions(self, context: Context, params: Params) -> Params:
        named = self._own(context, "ListLayerVersions", params)

        def after(position: str) -> Iterator[tuple[str, Params]]:
            for item in self._versions(named):
                if _matches(item, params) and (not position or item.name < f"{named.name}:{position}"):
                    yield item.name.rpartition(":")[2], _listed(item)

        items, marker = page(params, after, LISTED_MAX, operation="ListLayerVersions")
        return {"LayerVersions": items, **({"NextMarker": marker} if marker else {})}

    async def delete(self, context: Context, params: Params) -> Params:
        named = self._own(context, "DeleteLayerVersion", params)
        if named.version is not None and named.version < 1:
            raise refusals.invalid("Layer Version Cannot be less than 1")
        await self._deployments.items.delete(self._item(named))
        return {}

    # Policies ------------------------------------------------------------------------------------------------------------
    async def add_permission(self, context: Context, params: Params) -> Params:
        named = self._own(context, "AddLayerVersionPermission", params)
        statement: Params = {
            "Sid": params["StatementId"],
            "Effect": "Allow",
            "Principal": statements.principal(params["Principal"], partition(named.region)),
            "Action": params["Action"],
            "Resource": named.arn,
        }
        if params.get("OrganizationId"):
            statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": params["OrganizationId"]}}

        def change(document: Read | None) -> Read:
            statements.check_revision(document, params.get("RevisionId"), "GetLayerPolicy")
            return statements.with_statement(document, statement)

        changed = await self._change_policy(named, change)
        return {"Statement": statements.text_of(statement), "RevisionId": statements.revision_of(changed)}

    async def remove_permission(self, context: Context, params: Params) -> Params:
        named = self._own(context, "RemoveLayerVersionPermission", params)

        def change(document: Read | None) -> Read | None:
            left = statements.without_statement(document, params["StatementId"])
            statements.check_revision(document, params.get("RevisionId"), "GetLayerPolicy")
            return left

        await self._change_policy(named, change)
        return {}

    async def get_policy(self, context: Context, params: Params) -> Params:
        document = self._there(self._own(context, "GetLayerVersionPolicy", params)).value.get("Policy")
        if not document:
            raise refusals.not_found("No policy is associated with the given resource.")
        return {"Policy": statements.text_of(document), "RevisionId": statements.revision_of(document)}

    async def _change_policy(self, named: Named, make: Any) -> Read:
        def change(item: Item) -> Item:
            return replace(item, value={**item.value, "Policy": make(item.value.get("Policy"))})

        item = self._there(named)
        try:
            return (await self._deployments.items.change(item, change)).value["Policy"] or {}
        except NotFound as error:
            raise refusals.not_found(f"Layer version {named.arn} does not exist.") from error

    # For functions ---------------------------------------------------------------------------------------------------------
    def chosen(self, context: Context, arns: Sequence[str]) -> list[Item]:
        """The versions that a function names, in its order. Raises what the service says of those it cannot have."""
        found: list[Item] = []
        seen: dict[str, str] = {}
        for arn in arns:
            named = _parsed(arn)
            if named.account == context.account and named.region != context.region:
                raise refusals.invalid(
                    f"Layers are not in the same region as the function. Layers are expected to be in region {context.region}."
                )
            self._let_in(context, named)
            item = self._find(named)
            if item is None or named.region != context.region:
                raise refusals.invalid(f"Layer version {arn} does not exist.")
            layer = replace(named, version=None).arn
            if layer in seen:
                raise refusals.invalid(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. "
                    f"{seen[layer]} and {arn} are versions of the same layer."
                )
            seen[layer] = arn
            found.append(item)
        return found

    async def applied(self, wanted: Configuration, chosen: Sequence[Item], code: Code) -> Configuration:
        """The configuration with these layers, merged. Raises what the service says of layers that are too large."""
        codes = [_code(item) for item in chosen]
        check_size(Code(sha256="", zipped_bytes=0, unpacked_bytes=sum(each.unpacked_bytes for each in codes)), code)
        shown = [{"Arn": _version_arn(item), "CodeSize": item.value["CodeSize"]} for item in chosen]
        return configuration.with_layers(wanted, shown, await self._deployments.merge(codes))

    # Within ----------------------------------------------------------------------------------------------------------------
    def _named(self, context: Context, params: Params) -> Named:
        text, version = params["LayerName"], params.get("VersionNumber")
        if text.startswith("arn:"):
            named = _parsed(text)
            if named.region != context.region:
                raise refusals.invalid(f"Layers of '{named.region}' are not reachable in this region ('{context.region}')")
            return replace(named, version=named.version if version is None else version)
        return Named(context.account, context.region, text, version)

    def _own(self, context: Context, operation: str, params: Params) -> Named:
        """The layer of the caller's own account."""
        _permit(context, operation)
        named = self._named(context, params)
        if named.account != context.account:
            raise _not_shared(self.grants.arn(context.asker), f"lambda:{operation}", named.arn)
        return named

    def _let_in(self, context: Context, named: Named) -> None:
        """Raise AccessDeniedException unless the version is the caller's account's or lets it in."""
        if named.account == context.account:
            return
        item = self._find(named)
        document = item.value.get("Policy") if item else None
        own = [policy.of_document(document, Kind.RESOURCE)] if document else []
        action = "lambda:GetLayerVersion"
        if not self.grants.may(context.asker, action, named.arn, named.account, own=own):
            raise _not_shared(self.grants.arn(context.asker), action, named.arn)

    def _item(self, named: Named) -> Item:
        name = f"{named.name}:{named.version or 0:010d}"
        return Item(dialect=DIALECT, kind=LAYER_VERSION, account=named.account, region=named.region, name=name)

    def _find(self, named: Named) -> Item | None:
        key = self._item(named)
        return self._deployments.index.item(DIALECT, key.kind, key.account, key.region, key.name)

    def _there(self, named: Named) -> Item:
        if named.version is not None and named.version < 1:
            raise refusals.invalid("Layer Version Cannot be less than 1")
        item = self._find(named)
        if item is None:
            raise refusals.not_found(f"Layer version {named.arn} does not exist.")
        return item

    def _versions(self, named: Named) -> list[Item]:
        """Newest first."""
        items = self._deployments.index.items(DIALECT, LAYER_VERSION, named.account, named.region)
        return [item for item in reversed(items) if item.name.rpartition(":")[0] == named.name]

    async def _next(self, named: Named) -> int:
        """A number that no version of this layer ever had."""
        item = Item(
            dialect=DIALECT, kind=_LAYER, account=named.account, region=named.region, name=named.name, value={"Last": 1}
        )
        items = self._deployments.items
        try:
            return int((await items.create(item)).value["Last"])
        except AlreadyExists:
            raised = await items.change(item, lambda now: replace(now, value={"Last": now.value["Last"] + 1}))
            return int(raised.value["Last"])

    def _shown(self, context: Context, item: Item) -> Params:
        named = _of(item)
        code = _code(item)
        content = {
            "Location": self._code_url(code, context), "CodeSha256": code_sha256(code), "CodeSize": code.zipped_bytes,
        }  # fmt: skip
        return {"Content": content, "LayerArn": replace(named, version=None).arn, **_listed(item)}


_KEPT: Final = ("CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo")


def _code(item: Item) -> Code:
    """What a layer's version shows."""
    value = item.value
    return Code(
        sha256=item.codes[0],
        zipped_bytes=value["CodeSize"],
        unpacked_bytes=value["Unpacked"],
        asks=tuple(value.get("Asks", ())),
        minds=value.get("Minds", True),
        extensions=tuple(value.get("Extensions", ())),
    )


def check_size(opt: Code | None, code: Code) -> None:
    """Raise what the service says of a function that is too large together with its layers."""
    size = code.unpacked_bytes + (opt.unpacked_bytes if opt else 0)
    if opt is not None and size > CODE_UNPACKED_BYTES_MAX:
        raise refusals.invalid(
            f"Function code combined with layers exceeds the maximum allowed size of {CODE_UNPACKED_BYTES_MAX} bytes. "
            f"The actual size is {size} bytes."
        )


def _permit(context: Context, operation: str) -> None:
    permit(context.principal, action_of("lambda", operation), context.account)


def _parsed(arn: str) -> Named:
    found = _ARN.fullmatch(arn)
    if found is None:
        raise refusals.invalid(f"Layer version {arn} does not exist.")
    region, account, name, version = found.groups()
    if version is not None and len(version) > _DIGITS_MAX:
        raise refusals.invalid(f"Layer version {arn} does not exist.")
    return Named(account, region, name, None if version is None else int(version))


def _of(item: Item) -> Named:
    name, _, version = item.name.rpartition(":")
    return Named(item.account, item.region, name, int(version))


def _version_arn(item: Item) -> str:
    return _of(item).arn


def _matches(item: Item, params: Read) -> bool:
    runtime, architecture = params.get("CompatibleRuntime"), params.get("CompatibleArchitecture")
    return (runtime is None or runtime in item.value.get("CompatibleRuntimes", ())) and (
        architecture is None or architecture in item.value.get("CompatibleArchitectures", ())
    )


def _listed(item: Item) -> Params:
    value = item.value
    shown = {
        "LayerVersionArn": _version_arn(item), "Version": _of(item).version, "Description": value["Description"],
        "CreatedDate": value["CreatedDate"],
    }  # fmt: skip
    return {**shown, **{member: value[member] for member in _KEPT if value.get(member)}}


def _not_shared(who: str, action: str, arn: str) -> ServiceError:
    return errors.not_authorized(who, action, arn, errors.because_none("resource-based policy", action))
