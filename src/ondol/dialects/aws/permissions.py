"""AddPermission, RemovePermission, GetPolicy and the whole-policy forms: what a function lets others do.

A function, each of its versions and each of its aliases has a policy of its own; they are kept in the function's document, so
that they go with it and every front has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.dialects.aws import names, refusals, statements
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Found, Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import Context, Operations
from ondol.model.functions import Function

Params = dict[str, Any]
Read = Mapping[str, Any]

_MISSING: Final = "The resource you requested does not exist."
#: Parameter -> (operator, condition key).
_CONDITIONS: Final = {
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "EventSourceToken": ("StringEquals", "lambda:EventSourceToken"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "InvokedViaFunctionUrl": ("Bool", "lambda:InvokedViaFunctionUrl"),
}


class Permissions:
    """The handlers."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "AddPermission": self.add,
            "RemovePermission": self.remove,
            "GetPolicy": self.get,
            "PutResourcePolicy": self.put_whole,
            "GetResourcePolicy": self.get_whole,
            "DeleteResourcePolicy": self.delete_whole,
        }

    async def add(self, context: Context, params: Params) -> Params:
        found = self._found(context, "AddPermission", params)
        if found.qualifier == LATEST:
            raise refusals.invalid("We currently do not support adding policies for $LATEST.")
        function = found.function
        if "FunctionUrlAuthType" in params and params["Action"] != "lambda:InvokeFunctionUrl":
            raise refusals.invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
        statement = {
            "Sid": params["StatementId"],
            "Effect": "Allow",
            "Principal": statements.principal(params["Principal"], names.partition(function.region)),
            "Action": params["Action"],
            "Resource": arn(function, found.qualifier),
        }
        if conditions := _conditions(params):
            statement["Condition"] = conditions

        def change(document: Read | None) -> Read:
            statements.check_revision(document, params.get("RevisionId"), "GetPolicy")
            return statements.with_statement(document, statement)

        await self._change(found, change)
        return {"Statement": statements.text_of(statement)}

    async def remove(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "RemovePermission", params)
        if self._deployments.index.handle(DIALECT, named.account, named.region, named.name) is None:
            asked = names.function_arn(named.account, named.region, named.name, named.qualifier)
            raise refusals.not_found(f"No policy found for: {asked}")
        found = self._found(context, "RemovePermission", params)

        def change(document: Read | None) -> Read | None:
            left = statements.without_statement(document, params["StatementId"])
            statements.check_revision(document, params.get("RevisionId"), "GetPolicy")
            return left

        await self._change(found, change)
        return {}

    async def get(self, context: Context, params: Params) -> Params:
        return self._shown(self._found(context, "GetPolicy", params))

    # Whole policies ------------------------------------------------------------------------------------------------------
    async def put_whole(self, context: Context, params: Params) -> Params:
        found = self._found_by_arn(context, "PutResourcePolicy", params)
        wanted = statements.whole(params["Policy"])

        def change(document: Read | None) -> Read:
            statements.check_revision(document, params.get("RevisionId"), "GetResourcePolicy")
            return wanted

        await self._change(found, change)
        return {"Policy": statements.text_of(wanted), "RevisionId": statements.revision_of(wanted)}

    async def get_whole(self, context: Context, params: Params) -> Params:
        return self._shown(self._found_by_arn(context, "GetResourcePolicy", params))

    async def delete_whole(self, context: Context, params: Params) -> Params:
        found = self._found_by_arn(context, "DeleteResourcePolicy", params)

        def change(document: Read | None) -> None:
            if not document:
                raise refusals.not_found(_MISSING)
            statements.check_revision(document, params.get("RevisionId"), "GetResourcePolicy")

        await self._change(found, change)
        return {}

    # Within --------------------------------------------------------------------------------------------------------------
    def _found_by_arn(self, context: Context, operation: str, params: Params) -> Found:
        return self._found(context, operation, {"FunctionName": params["ResourceArn"]})

    def _found(self, context: Context, operation: str, params: Params) -> Found:
        """The function; a version or alias that is named must be there."""
        found = self._lookup.function(context, operation, params)
        if found.qualifier not in (None, LATEST):
            self._lookup.deployed(found)
        return found

    def _shown(self, found: Found) -> Params:
        document = policies(found.function).get(found.qualifier or LATEST)
        if not document:
            raise refusals.not_found(_MISSING)
        return {"Policy": statements.text_of(document), "RevisionId": statements.revision_of(document)}

    async def _change(self, found: Found, make: Any) -> None:
        """Replace the policy by what `make` makes of it; None removes it."""
        at = found.qualifier or LATEST

        def change(own: Read) -> Read:
            kept = dict(own.get("Policies", {}))
            made = make(kept.pop(at, None))
            return {**own, "Policies": {**kept, **({at: made} if made else {})}}

        with self._lookup.changing(found.function):
            await self._deployments.annotate(found.function.id, DIALECT, change)


def policies(function: Function) -> Read:
    """A function's policies, by qualifier."""
    kept: Read = function.annotations.get(DIALECT, {}).get("Policies", {})
    return kept


def _conditions(params: Params) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {}
    for member, (operator, key) in _CONDITIONS.items():
        value = params.get(member)
        if value is not None:
            made.setdefault(operator, {})[key] = str(value).lower() if isinstance(value, bool) else value
    return made
