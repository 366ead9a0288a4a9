"""From what a client calls a function to what is deployed under that name, in the client's account and region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ondol.core.deploy import Deployed, Deployments
from ondol.core.permit import permit
from ondol.core.resolve import number_of
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.actions import action_of, named_action
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import Context
from ondol.model.errors import Busy, InvalidSetting, NotFound, RevisionMismatch
from ondol.model.functions import Function, Stage


@dataclass(frozen=True, slots=True)
class Found:
    """A function that is there, and the qualifier the client gave with it."""

    function: Function
    qualifier: str | None


class Lookup:
    """Shared by the handlers. Every one asks `permit` here first: what is not allowed is not looked up either."""

    def __init__(self, deployments: Deployments, grants: Grants) -> None:
        self._deployments = deployments
        self._grants = grants

    def named(self, context: Context, operation: str, params: Mapping[str, Any]) -> names.Named:
        """The name a request means, once its principal may do this to it."""
        named = names.parse(params["FunctionName"], params.get("Qualifier"), account=context.account, region=context.region)
        resource = names.function_arn(named.account, named.region, named.name)
        if named.account != context.account:
            self._let_in(context, operation, named)
            return named
        permit(context.principal, action_of("lambda", operation), context.account, resource)
        return named

    def _let_in(self, context: Context, operation: str, named: names.Named) -> None:
        """Raise AccessDeniedException unless another account's function lets the caller do this."""
        function = self._deployments.index.handle(DIALECT, named.account, named.region, named.name)
        action, who = named_action("lambda", operation), context.asker
        if function is None or not self._grants.may_function(who, action, function, named.qualifier):
            resource = names.function_arn(named.account, named.region, named.name)
            raise refusals.other_account(self._grants.arn(who), operation, resource)

    def function(self, context: Context, operation: str, params: Mapping[str, Any]) -> Found:
        """The function a request names. Raises "Function not found"."""
        named = self.named(context, operation, params)
        function = self._deployments.index.handle(DIALECT, named.account, named.region, named.name)
        if function is None:
            raise refusals.function_not_found(names.function_arn(named.account, named.region, named.name, named.qualifier))
        return Found(function, named.qualifier)

    def unqualified(self, context: Context, operation: str, params: Mapping[str, Any]) -> Function:
        """The function, for operations that versions and aliases do not take."""
        found = self.function(context, operation, params)
        if found.qualifier not in (None, LATEST):
            raise refusals.functions_only()
        return found.function

    def deployed(self, found: Found) -> Deployed:
        """What the qualifier means: the latest revision, a version, or an alias's (first) version."""
        function, qualifier = found.function, found.qualifier
        try:
            if qualifier is None or qualifier == LATEST:
                return self._deployments.latest(function)
            if (number := number_of(qualifier)) is not None:
                return self._deployments.version(function, number)
            alias = self._deployments.index.alias(function.id, qualifier)
            if alias is None:
                raise NotFound("alias", qualifier)
            return (
                self._deployments.latest(function)
                if alias.version is None
                else self._deployments.version(function, alias.version)
            )
        except NotFound:
            raise refusals.function_not_found(arn(function, qualifier)) from None

    @contextmanager
    def changing(self, function: Function) -> Iterator[None]:
        """Say a lost race, a stale revision or a vanished function as the service does."""
        try:
            yield
        except Busy as error:
            current = self._deployments.index.function(function.id)
            if current and current.stage is Stage.CREATING:
                raise refusals.still_pending() from error
            raise refusals.update_in_progress(arn(function)) from error
        except RevisionMismatch as error:
            raise refusals.stale_revision() from error
        except InvalidSetting as error:
            if error.field == "tags":
                raise refusals.invalid("Number of tags exceeds resource tag limit.") from error
            raise
        except NotFound as error:
            if error.kind == "function":
                raise refusals.function_not_found(arn(function)) from error
            raise
