"""What is said about a function beside its configuration: recursion, and when its runtime may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.dialects.aws import refusals
from ondol.dialects.aws.configuration import DIALECT, recursion
from ondol.dialects.aws.lookup import Found, Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import Context, Operations
from ondol.model.functions import Function

Params = dict[str, Any]
Read = Mapping[str, Any]

_AUTO: Final = {"UpdateRuntimeOn": "Auto"}


class FunctionSettings:
    """The handlers."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "PutFunctionRecursionConfig": self.put_recursion,
            "GetFunctionRecursionConfig": self.get_recursion,
            "PutRuntimeManagementConfig": self.put_runtime_management,
            "GetRuntimeManagementConfig": self.get_runtime_management,
        }

    async def put_recursion(self, context: Context, params: Params) -> Params:
        function = self._lookup.unqualified(context, "PutFunctionRecursionConfig", params)
        wanted = params["RecursiveLoop"]
        await self._change(function, lambda own: {**own, "RecursiveLoop": wanted})
        return {"RecursiveLoop": wanted}

    async def get_recursion(self, context: Context, params: Params) -> Params:
        return {"RecursiveLoop": recursion(self._lookup.unqualified(context, "GetFunctionRecursionConfig", params))}

    async def put_runtime_management(self, context: Context, params: Params) -> Params:
        found = self._found(context, "PutRuntimeManagementConfig", params)
        mode, wanted = params["UpdateRuntimeOn"], params.get("RuntimeVersionArn")
        if (mode == "Manual") != bool(wanted):
            raise refusals.invalid("RuntimeVersionArn goes with UpdateRuntimeOn Manual: give both, or neither.")
        kept = {"UpdateRuntimeOn": mode, **({"RuntimeVersionArn": wanted} if wanted else {})}
        at = found.qualifier or LATEST

        def change(own: Read) -> Read:
            return {**own, "RuntimeManagement": {**own.get("RuntimeManagement", {}), at: kept}}

        await self._change(found.function, change)
        return {**kept, "FunctionArn": arn(found.function, at)}

    async def get_runtime_management(self, context: Context, params: Params) -> Params:
        found = self._found(context, "GetRuntimeManagementConfig", params)
        at = found.qualifier or LATEST
        kept = found.function.annotations.get(DIALECT, {}).get("RuntimeManagement", {}).get(at, _AUTO)
        return {**kept, "FunctionArn": arn(found.function, at)}

    def _found(self, context: Context, operation: str, params: Params) -> Found:
        """The function; a version that is named must be there."""
        found = self._lookup.function(context, operation, params)
        self._lookup.deployed(found)
        return found

    async def _change(self, function: Function, change: Any) -> None:
        with self._lookup.changing(function):
            await self._deployments.annotate(function.id, DIALECT, change)
