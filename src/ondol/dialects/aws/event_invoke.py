"""PutFunctionEventInvokeConfig, Update…, Get…, Delete…, ListFunctionEventInvokeConfigs: asynchronous calls of a function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.rendering import arn
from ondol.dialects.aws.service import Context, Operations, ServiceError
from ondol.model.deferrals import Deferral, Destination
from ondol.model.errors import InvalidSetting, NotFound
from ondol.model.functions import Function

LISTED_MAX: Final = 50
#: Where AWS sends outcomes besides functions, and what people call it.
_UNBUILT: Final = {"sqs": "queues", "sns": "topics", "events": "event buses", "s3": "buckets"}

Params = dict[str, Any]


class EventInvoke:
    """The handlers. A configuration belongs to one qualifier; `$LATEST` is that of calls without one."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "PutFunctionEventInvokeConfig": self.put,
            "UpdateFunctionEventInvokeConfig": self.update,
            "GetFunctionEventInvokeConfig": self.get,
            "ListFunctionEventInvokeConfigs": self.list,
            "DeleteFunctionEventInvokeConfig": self.delete,
        }

    async def put(self, context: Context, params: Params) -> Params:
        named, function = self._changed(context, "PutFunctionEventInvokeConfig", params)
        wanted = self._merged(Deferral(function=function.id, qualifier=_qualifier(named)), named, params)
        try:
            with self._lookup.changing(function):
                made = await self._deployments.deferrals.put(wanted)
        except (NotFound, InvalidSetting) as error:
            raise _refused(error, params) from error
        return _shown(function, made)

    async def update(self, context: Context, params: Params) -> Params:
        named, function = self._changed(context, "UpdateFunctionEventInvokeConfig", params)

        def change(current: Deferral) -> Deferral:
            return self._merged(current, named, params)

        try:
            with self._lookup.changing(function):
                made = await self._deployments.deferrals.update(function.id, _qualifier(named), change)
        except (NotFound, InvalidSetting) as error:
            if isinstance(error, NotFound) and error.kind == "deferral":
                raise _none(named) from error
            raise _refused(error, params) from error
        return _shown(function, made)

    async def get(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "GetFunctionEventInvokeConfig", params)
        function = self._function(named)
        found = self._deployments.index.deferral(function.id, _qualifier(named)) if function else None
        if function is None or found is None:
            raise _none(named)
        return _shown(function, found)

    async def delete(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "DeleteFunctionEventInvokeConfig", params)
        function = self._function(named)
        if function is None:
            raise _none(named)
        try:
            await self._deployments.deferrals.delete(function.id, _qualifier(named))
        except NotFound as error:
            raise _none(named) from error
        return {}

    async def list(self, context: Context, params: Params) -> Params:
        named = self._lookup.named(context, "ListFunctionEventInvokeConfigs", params)
        if named.qualifier is not None:
            raise refusals.functions_only()
        function = self._function(named)
        if function is None:
            raise _missing()

        def after(position: str) -> Iterator[tuple[str, Deferral]]:
            for deferral in self._deployments.index.deferrals(function.id):
                if (at := deferral.qualifier or LATEST) > position:
                    yield at, deferral

        items, marker = page(params, after, LISTED_MAX, operation="ListFunctionEventInvokeConfigs")
        shown = [_shown(function, deferral) for deferral in items]
        return {"FunctionEventInvokeConfigs": shown, **({"NextMarker": marker} if marker else {})}

    # Within ----------------------------------------------------------------------------------------------------------
    def _changed(self, context: Context, operation: str, params: Params) -> tuple[names.Named, Function]:
        """What a request wants to configure. That it says something at all is asked first, as the service does."""
        named = self._lookup.named(context, operation, params)
        destinations = params.get("DestinationConfig") or {}
        said = (params.get("MaximumRetryAttempts"), params.get("MaximumEventAgeInSeconds"))
        if all(value is None for value in said) and all(value is None for value in destinations.values()):
            raise refusals.invalid("You must specify at least one of error handling or destination setting.")
        function = self._function(named)
        if function is None:
            raise _missing()
        return named, function

    def _function(self, named: names.Named) -> Function | None:
        return self._deployments.index.handle(DIALECT, named.account, named.region, named.name)

    def _merged(self, current: Deferral, named: names.Named, params: Params) -> Deferral:
        """`current` with what the request says; a destination that is named without an ARN is taken away."""
        changes: dict[str, Any] = {}
        if params.get("MaximumRetryAttempts") is not None:
            changes["retries_max"] = params["MaximumRetryAttempts"]
        if params.get("MaximumEventAgeInSeconds") is not None:
            changes["age_s_max"] = params["MaximumEventAgeInSeconds"]
        destinations = params.get("DestinationConfig") or {}
        for member, field in (("OnSuccess", "on_success"), ("OnFailure", "on_failure")):
            if destinations.get(member) is not None:
                text = destinations[member].get("Destination")
                changes[field] = destination(text, named, destinations) if text else None
        return replace(current, **changes)


def destination(text: str, named: names.Named, destinations: Mapping[str, Any]) -> Destination:
    """The function that an ARN means. Raises for what the service refuses, and for what Ondol has not."""
    service = text.split(":")[2] if text.count(":") >= 5 else ""
    if service in _UNBUILT:
        raise refusals.not_built(
            f"{_UNBUILT[service]} as destinations ({text})", "Name a function; functions are the destinations that are built."
        )
    if service != "lambda":
        raise refusals.invalid(f"The provided destination config {_java(destinations)} is invalid.")
    try:
        found = names.parse(text, None, account=named.account, region=named.region)
    except ServiceError as error:
        raise _bad_destination(text) from error
    if found.account != named.account:
        raise _bad_destination(text)
    if found.name == named.name:
        raise refusals.invalid("You can't specify the function as a destination for itself.")
    return Destination(
        dialect=DIALECT, account=found.account, region=found.region, name=found.name, qualifier=_qualifier(found)
    )


def _qualifier(named: names.Named) -> str | None:
    return None if named.qualifier == LATEST else named.qualifier


def _shown(function: Function, deferral: Deferral) -> Params:
    shown: Params = {
        "LastModified": datetime.fromtimestamp(deferral.updated_s, UTC),
        "FunctionArn": arn(function, deferral.qualifier or LATEST),
        "DestinationConfig": {"OnSuccess": _target(deferral.on_success), "OnFailure": _target(deferral.on_failure)},
    }
    if deferral.retries_max is not None:
        shown["MaximumRetryAttempts"] = deferral.retries_max
    if deferral.age_s_max is not None:
        shown["MaximumEventAgeInSeconds"] = deferral.age_s_max
    return shown


def _target(where: Destination | None) -> Params:
    return {"Destination": destination_arn(where)} if where else {}


def destination_arn(where: Destination) -> str:
    """As the client wrote it."""
    return names.function_arn(where.account, where.region, where.name, where.qualifier)


def _java(destinations: Mapping[str, Any]) -> str:
    """How the service prints the whole structure."""

    def part(member: str) -> str:
        value = destinations.get(member)
        field = f"{member[0].lower()}{member[1:]}"
        shown = "null" if value is None else f"{member}(destination={value.get('Destination') or 'null'})"
        return f"{field}={shown}"

    return f"DestinationConfig({part('OnSuccess')}, {part('OnFailure')})"


def _refused(error: NotFound | InvalidSetting, params: Params) -> ServiceError:
    match error:
        case NotFound(kind="destination"):
            destinations = params.get("DestinationConfig") or {}
            texts = [(value or {}).get("Destination") or "" for value in destinations.values()]
            wanted = error.name.rstrip(":")
            return _bad_destination(next((text for text in texts if text.endswith(wanted)), wanted))
        case NotFound():
            return _missing()
        case _:
            return refusals.invalid(str(error))


def _bad_destination(text: str) -> ServiceError:
    return refusals.invalid(f"The destination ARN {text} is invalid.")


def _missing() -> ServiceError:
    return refusals.not_found("The function doesn't exist.")


def _none(named: names.Named) -> ServiceError:
    asked = names.function_arn(named.account, named.region, named.name, named.qualifier or LATEST)
    return refusals.not_found(f"The function {asked} doesn't have an EventInvokeConfig")
