"""TagResource, UntagResource, ListTags: tags of functions. Nothing else that could be tagged is there yet."""

from __future__ import annotations

from typing import Any

from ondol.core.deploy import Deployments
from ondol.dialects.aws import refusals
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.service import Context, Operations
from ondol.model.functions import Function

Params = dict[str, Any]

#: What is said of resources of a kind that is not built: that there is none.
_MISSING = {
    "event-source-mapping": "Event source mapping not found: {arn}",
    "capacity-provider": "Capacity provider not found: {arn}",
    "code-signing-config": "The Lambda code signing configuration {arn} can not be found.",
}


class Tags:
    """The handlers of the tag operations."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {"TagResource": self.tag, "UntagResource": self.untag, "ListTags": self.list}

    async def tag(self, context: Context, params: Params) -> Params:
        function = self._function(context, "TagResource", params)
        if not params["Tags"]:
            raise refusals.invalid("An error occurred and the request cannot be processed.")
        with self._lookup.changing(function):
            await self._deployments.retag(function.id, add=params["Tags"])
        return {}

    async def untag(self, context: Context, params: Params) -> Params:
        function = self._function(context, "UntagResource", params)
        with self._lookup.changing(function):
            await self._deployments.retag(function.id, remove=frozenset(params["TagKeys"]))
        return {}

    async def list(self, context: Context, params: Params) -> Params:
        return {"Tags": dict(self._function(context, "ListTags", params).tags)}

    def _function(self, context: Context, operation: str, params: Params) -> Function:
        resource = params["Resource"]
        kind = resource.split(":")[5]
        if kind in _MISSING:
            raise refusals.not_found(_MISSING[kind].format(arn=resource))
        found = self._lookup.function(context, operation, {"FunctionName": resource})
        if found.qualifier is not None:
            raise refusals.invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return found.function
