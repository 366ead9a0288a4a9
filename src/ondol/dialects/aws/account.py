"""GetAccountSettings, and the account's concurrency that functions set aside for themselves."""

from __future__ import annotations

from typing import Any

from ondol.core.deploy import Deployments
from ondol.core.permit import permit
from ondol.core.pins import CONCURRENCY_UNRESERVED_MIN, pinned
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.service import Context, Operations
from ondol.dialects.aws.uploads import CODE_STORAGE_BYTES_MAX, stored_bytes
from ondol.model.errors import InvalidSetting
from ondol.model.functions import Function
from ondol.model.limits import CODE_UNPACKED_BYTES_MAX, CODE_ZIPPED_BYTES_MAX, CONCURRENCY_PER_ACCOUNT

Params = dict[str, Any]


class Account:
    """The handlers of what concerns the account as a whole."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "GetAccountSettings": self.settings,
            "PutFunctionConcurrency": self.reserve,
            "GetFunctionConcurrency": self.reserved,
            "DeleteFunctionConcurrency": self.give_back,
        }

    async def settings(self, context: Context, params: Params) -> Params:
        del params  # it takes none
        permit(context.principal, action_of("lambda", "GetAccountSettings"), context.account)
        account, region = context.account, context.region
        functions = [f for f in self._deployments.index.functions() if (f.account, f.region) == (account, region)]
        return {
            "AccountLimit": {
                "TotalCodeSize": CODE_STORAGE_BYTES_MAX,
                "CodeSizeUnzipped": CODE_UNPACKED_BYTES_MAX,
                "CodeSizeZipped": CODE_ZIPPED_BYTES_MAX,
                "ConcurrentExecutions": CONCURRENCY_PER_ACCOUNT,
                "UnreservedConcurrentExecutions": self._deployments.unreserved(account, region),
            },
            "AccountUsage": {
                "TotalCodeSize": stored_bytes(self._deployments, account, region),
                "FunctionCount": len(functions),
            },
        }

    async def reserve(self, context: Context, params: Params) -> Params:
        function = self._function(context, "PutFunctionConcurrency", params, missing=LATEST)
        executions = params["ReservedConcurrentExecutions"]
        try:
            with self._lookup.changing(function):
                await self._deployments.reserve(function.id, executions)
        except InvalidSetting as error:
            if error.field == "pins":
                total = pinned(self._deployments.index, function.id)
                raise refusals.invalid(
                    f" ReservedConcurrentExecutions  {executions} should not be lower than function's total "
                    f"provisioned concurrency [{total}].",
                    typed=False,
                ) from error
            text = (
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{CONCURRENCY_UNRESERVED_MIN}]."
            )
            raise refusals.invalid(text, typed=False) from error
        return {"ReservedConcurrentExecutions": executions}

    async def reserved(self, context: Context, params: Params) -> Params:
        executions = self._function(context, "GetFunctionConcurrency", params).concurrency_reserved
        return {} if executions is None else {"ReservedConcurrentExecutions": executions}

    async def give_back(self, context: Context, params: Params) -> Params:
        function = self._function(context, "DeleteFunctionConcurrency", params)
        with self._lookup.changing(function):
            await self._deployments.reserve(function.id, None)
        return {}

    def _function(self, context: Context, operation: str, params: Params, missing: str | None = None) -> Function:
        """The function, named without any qualifier; one that is not there is named with `missing`."""
        named = self._lookup.named(context, operation, params)
        if named.qualifier is not None:
            raise refusals.functions_only()
        function = self._deployments.index.handle(DIALECT, named.account, named.region, named.name)
        if function is None:
            raise refusals.function_not_found(names.function_arn(named.account, named.region, named.name, missing))
        return function
