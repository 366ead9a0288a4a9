"""TagResource, UntagResource, ListTags: functions, event source mappings, code signing configurations, capacity providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ondol.core.deploy import TAGS_MAX, Deployments
from ondol.core.permit import permit
from ondol.dialects.aws import code_signing, managed, mappings, refusals
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.errors import NotFound
from ondol.model.functions import Function
from ondol.model.items import Item

Params = dict[str, Any]

#: Resources that are items of the catalog's.
_ITEMS: Final = frozenset({mappings.KIND, code_signing.KIND, managed.KIND})


class Tags:
    """The handlers of the tag operations."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {"TagResource": self.tag, "UntagResource": self.untag, "ListTags": self.list}

    async def tag(self, context: Context, params: Params) -> Params:
        found = self._found(context, "TagResource", params)
        if not params["Tags"]:
            raise refusals.invalid("An error occurred and the request cannot be processed.")
        await self._retag(found, params["Resource"], add=refusals.tags_of(params))
        return {}

    async def untag(self, context: Context, params: Params) -> Params:
        found = self._found(context, "UntagResource", params)
        await self._retag(found, params["Resource"], remove=frozenset(params["TagKeys"]))
        return {}

    async def list(self, context: Context, params: Params) -> Params:
        found = self._found(context, "ListTags", params)
        return {"Tags": dict(found.value["Tags"] if isinstance(found, Item) else found.tags)}

    async def _retag(
        self, found: Function | Item, resource: str, add: Mapping[str, str] | None = None, remove: frozenset[str] = frozenset()
    ) -> None:
        if isinstance(found, Function):
            with self._lookup.changing(found):
                await self._deployments.retag(found.id, add=add, remove=remove)
            return

        def change(item: Item) -> Item:
            tags = {key: value for key, value in {**item.value["Tags"], **(add or {})}.items() if key not in remove}
            if len(tags) > TAGS_MAX:
                raise refusals.invalid("Number of tags exceeds resource tag limit.")
            return replace(item, value={**item.value, "Tags": tags})

        try:
            await self._deployments.items.change(found, change)
        except NotFound as error:
            raise _absent(found.kind, resource) from error

    def _found(self, context: Context, operation: str, params: Params) -> Function | Item:
        resource = params["Resource"]
        region, account, kind, *rest = resource.split(":")[3:]
        if kind in _ITEMS:
            permit(context.principal, action_of("lambda", operation), context.account)
            item = self._deployments.index.item(DIALECT, kind, context.account, context.region, ":".join(rest))
            if item is None or (account, region) != (context.account, context.region):
                raise _absent(kind, resource)
            return item
        found = self._lookup.function(context, operation, {"FunctionName": resource})
        if found.qualifier is not None:
            raise refusals.invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return found.function


def _absent(kind: str, resource: str) -> ServiceError:
    if kind == code_signing.KIND:
        return code_signing.absent(resource)
    what = "Event source mapping" if kind == mappings.KIND else "Capacity provider"
    return refusals.not_found(f"{what} not found: {resource}")
