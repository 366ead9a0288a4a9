"""CreateAlias, GetAlias, ListAliases, UpdateAlias, DeleteAlias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.core.resolve import number_of
from ondol.dialects.aws import belongings, names, refusals
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import Context, Operations
from ondol.model.errors import AlreadyExists, InvalidSetting, NotFound
from ondol.model.functions import Alias, Function

LISTED_MAX: Final = 50

Params = dict[str, Any]


class Aliases:
    """The handlers of what concerns aliases."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "CreateAlias": self.create,
            "GetAlias": self.get,
            "ListAliases": self.list,
            "UpdateAlias": self.update,
            "DeleteAlias": self.delete,
        }

    async def create(self, context: Context, params: Params) -> Params:
        function = self._function(context, "CreateAlias", params, missing=params["FunctionVersion"])
        alias = Alias(
            function=function.id,
            name=params["Name"],
            version=_number(params["FunctionVersion"]),
            description=params.get("Description") or "",
        )
        alias = _routed(alias, params.get("RoutingConfig"))
        try:
            with self._lookup.changing(function):
                created = await self._deployments.aliases.create(alias)
        except AlreadyExists as error:
            raise refusals.conflict(f"Alias already exists: {arn(function, alias.name)}") from error
        except (NotFound, InvalidSetting) as error:
            raise _refused(function, error) from error
        return self._shown(function, created)

    async def get(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "GetAlias", params)
        if named.qualifier not in (None, LATEST):
            raise refusals.functions_only()
        index = self._deployments.index
        function = index.handle(DIALECT, named.account, named.region, named.name)
        alias = index.alias(function.id, params["Name"]) if function else None
        if function is None or alias is None:
            missing = names.function_arn(named.account, named.region, named.name, params["Name"])
            raise refusals.not_found(f"Cannot find alias arn: {missing}")
        return self._shown(function, alias)

    async def list(self, context: Context, params: Params) -> Params:
        function = self._function(context, "ListAliases", params)
        wanted = params.get("FunctionVersion")

        def after(position: str) -> Iterator[tuple[str, Alias]]:
            for alias in self._deployments.index.aliases(function.id):
                if alias.name > position and (wanted is None or _number(wanted) in _versions(alias)):
                    yield alias.name, alias

        items, marker = page(params, after, LISTED_MAX, operation="ListAliases")
        shown = [self._shown(function, alias) for alias in items]
        return {"Aliases": shown, **({"NextMarker": marker} if marker else {})}

    async def update(self, context: Context, params: Params) -> Params:
        function = self._function(context, "UpdateAlias", params)
        name = params["Name"]

        def change(alias: Alias) -> Alias:
            version = _number(params["FunctionVersion"]) if params.get("FunctionVersion") else alias.version
            description = params.get("Description", alias.description)
            return _routed(replace(alias, version=version, description=description), params.get("RoutingConfig"))

        try:
            with self._lookup.changing(function):
                updated = await self._deployments.aliases.update(function.id, name, change, if_etag=params.get("RevisionId"))
        except (NotFound, InvalidSetting) as error:
            raise _refused(function, error) from error
        return self._shown(function, updated)

    async def delete(self, context: Context, params: Params) -> Params:
        function = self._function(context, "DeleteAlias", params)
        await self._deployments.aliases.delete(function.id, params["Name"])
        await belongings.forget(self._deployments, function.id, params["Name"])
        return {}

    def _function(self, context: Context, operation: str, params: Params, missing: str | None = None) -> Function:
        """The function; one that is not there is named together with the version `missing`, if any."""
        named = self._lookup.named(context, operation, params)
        if missing and not self._deployments.index.handle(DIALECT, named.account, named.region, named.name):
            raise refusals.function_not_found(names.function_arn(named.account, named.region, named.name, missing))
        return self._lookup.unqualified(context, operation, params)

    def _shown(self, function: Function, alias: Alias) -> Params:
        shown: Params = {
            "AliasArn": arn(function, alias.name),
            "Name": alias.name,
            "FunctionVersion": names.version_name(alias.version),
            "Description": alias.description,
            "RevisionId": self._deployments.aliases.etag(alias),
        }
        if alias.second is not None:
            shown["RoutingConfig"] = {"AdditionalVersionWeights": {str(alias.second): alias.second_weight}}
        return shown


def _number(version: str) -> int | None:
    return None if version == LATEST else number_of(version)


def _versions(alias: Alias) -> tuple[int | None, ...]:
    return (alias.version,) if alias.second is None else (alias.version, alias.second)


def _routed(alias: Alias, routing: Mapping[str, Any] | None) -> Alias:
    """`alias` with the second version that `routing` names; None leaves it, an empty one takes it away."""
    if routing is None:
        return alias
    weights = routing.get("AdditionalVersionWeights") or {}
    if len(weights) > 1:
        raise refusals.invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    for version, weight in weights.items():
        if alias.version == int(version):
            raise refusals.invalid(
                f"Invalid function version {version}. Function version {version} is already included in routing configuration."
            )
        return replace(alias, second=int(version), second_weight=float(weight))
    return replace(alias, second=None, second_weight=0.0)


def _refused(function: Function, error: NotFound | InvalidSetting) -> Exception:
    match error:
        case NotFound(kind="version"):
            return refusals.function_not_found(arn(function, names.version_name(int(error.name))))
        case NotFound(kind="alias"):
            return refusals.not_found(f"Alias not found: {arn(function, error.name)}")
        case InvalidSetting(field="version"):
            text = "$LATEST is not supported for an alias pointing to more than 1 version"
            return refusals.invalid(text, typed=False)
        case _:
            return error
