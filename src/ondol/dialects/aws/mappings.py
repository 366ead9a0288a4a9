"""Event source mappings: kept, checked and shown as the service does. Nothing polls their sources yet.

The answers to creating, changing and deleting one show it on its way (Creating, Updating, Deleting); asked again, it is there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.core.permit import permit
from ondol.core.resolve import number_of
from ondol.dialects.aws import names, refusals
from ondol.dialects.aws.actions import action_of
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.lookup import Lookup
from ondol.dialects.aws.mapping_kinds import DEFAULTS, check, kind_of, taken
from ondol.dialects.aws.names import LATEST
from ondol.dialects.aws.paging import page
from ondol.dialects.aws.resources import mapping_arn
from ondol.dialects.aws.service import Context, Operations
from ondol.model.errors import NotFound
from ondol.model.functions import Function
from ondol.model.items import Item

Params = dict[str, Any]
Read = Mapping[str, Any]

KIND: Final = "event-source-mapping"
LISTED_MAX: Final = 100
#: Parameters that are kept as they come.
_KEPT: Final = (
    "EventSourceArn", "StartingPosition", "BatchSize", "FilterCriteria", "KMSKeyArn", "MetricsConfig", "LoggingConfig",
    "ScalingConfig", "MaximumBatchingWindowInSeconds", "ParallelizationFactor", "DestinationConfig",
    "MaximumRecordAgeInSeconds", "BisectBatchOnFunctionError", "MaximumRetryAttempts", "TumblingWindowInSeconds", "Topics",
    "Queues", "SourceAccessConfigurations", "SelfManagedEventSource", "FunctionResponseTypes",
    "AmazonManagedKafkaEventSourceConfig", "SelfManagedKafkaEventSourceConfig", "DocumentDBEventSourceConfig",
    "ProvisionedPollerConfig",
)  # fmt: skip


class Mappings:
    """The handlers."""

    def __init__(self, deployments: Deployments, lookup: Lookup) -> None:
        self._deployments = deployments
        self._lookup = lookup

    def operations(self) -> Operations:
        return {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
            "ListEventSourceMappings": self.list_mappings,
        }

    async def create(self, context: Context, params: Params) -> Params:
        function, qualifier = self._target(context, "CreateEventSourceMapping", params)
        kind = kind_of(params)
        value = {
            **DEFAULTS[kind],
            **_given(params),
            "Function": function.name,
            "Qualifier": qualifier,
            "Enabled": params.get("Enabled", True),
            "LastModified": self._deployments.wall_s(),
            "Tags": refusals.tags_of(params),
        }
        if params.get("StartingPositionTimestamp") is not None:
            value["StartingPositionTimestamp"] = _seconds(params["StartingPositionTimestamp"])
        check(kind, value)
        for other in self._all(context):
            if _same(other.value, value):
                raise taken(kind, value, names.function_arn(context.account, context.region, function.name), other.name)
        item = replace(self._key(context, str(uuid.uuid4())), value=value)
        await self._deployments.items.create(item)
        return _shown(item, state="Creating")

    async def get(self, context: Context, params: Params) -> Params:
        return _shown(self._item(context, "GetEventSourceMapping", params))

    async def update(self, context: Context, params: Params) -> Params:
        item = self._item(context, "UpdateEventSourceMapping", params)
        target: Params = {}
        if params.get("FunctionName"):
            function, qualifier = self._target(context, "UpdateEventSourceMapping", params)
            target = {"Function": function.name, "Qualifier": qualifier}

        def change(now: Item) -> Item:
            value = {**now.value, **_given(params), **target, "LastModified": self._deployments.wall_s()}
            if params.get("Enabled") is not None:
                value["Enabled"] = params["Enabled"]
            check(kind_of(value), value)
            return replace(now, value=value)

        try:
            return _shown(await self._deployments.items.change(item, change), state="Updating")
        except NotFound as error:
            raise refusals.not_found("The resource you requested does not exist.") from error

    async def delete(self, context: Context, params: Params) -> Params:
        item = self._item(context, "DeleteEventSourceMapping", params)
        await self._deployments.items.delete(item)
        return _shown(item, state="Deleting")

    async def list_mappings(self, context: Context, params: Params) -> Params:
        _permit(context, "ListEventSourceMappings")
        wanted = None
        if params.get("FunctionName"):
            named = names.parse(params["FunctionName"], None, account=context.account, region=context.region)
            wanted = (named.name, named.qualifier)
        source = params.get("EventSourceArn")

        def after(position: str) -> Iterator[tuple[str, Params]]:
            for item in self._all(context):
                value = item.value
                fits = wanted is None or (value["Function"], value["Qualifier"]) == wanted
                if item.name > position and fits and source in (None, value.get("EventSourceArn")):
                    yield item.name, _shown(item)

        items, marker = page(params, after, LISTED_MAX, operation="ListEventSourceMappings")
        return {"EventSourceMappings": items, **({"NextMarker": marker} if marker else {})}

    # Within --------------------------------------------------------------------------------------------------------------
    def _target(self, context: Context, operation: str, params: Params) -> tuple[Function, str | None]:
        named = self._lookup.named(context, operation, params)
        index = self._deployments.index
        function = index.handle(DIALECT, named.account, named.region, named.name)
        qualifier = None if named.qualifier == LATEST else named.qualifier
        there = function is not None and (
            qualifier is None
            or index.alias(function.id, qualifier) is not None
            or index.version(function.id, number_of(qualifier) or 0) is not None
        )
        if function is None or not there:
            raise refusals.invalid("Function does not exist")
        if function.per_tenant:
            raise refusals.without_tenants("An event source mapping")
        return function, named.qualifier

    def _key(self, context: Context, name: str) -> Item:
        return Item(dialect=DIALECT, kind=KIND, account=context.account, region=context.region, name=name)

    def _item(self, context: Context, operation: str, params: Params) -> Item:
        _permit(context, operation)
        item = self._deployments.index.item(DIALECT, KIND, context.account, context.region, params["UUID"])
        if item is None:
            raise refusals.not_found("The resource you requested does not exist.")
        return item

    def _all(self, context: Context) -> list[Item]:
        return self._deployments.index.items(DIALECT, KIND, context.account, context.region)


def _permit(context: Context, operation: str) -> None:
    permit(context.principal, action_of("lambda", operation), context.account)


def _given(params: Read) -> Params:
    return {member: params[member] for member in _KEPT if params.get(member) is not None}


def _seconds(given: Any) -> float:
    return given.timestamp() if isinstance(given, datetime) else float(given)


def _same(one: Read, other: Read) -> bool:
    members = ("EventSourceArn", "SelfManagedEventSource", "Topics", "Queues", "Function", "Qualifier")
    return all(one.get(member) == other.get(member) for member in members)


def _shown(item: Item, state: str = "") -> Params:
    value = item.value
    shown: Params = {
        "UUID": item.name,
        **{member: value[member] for member in _KEPT if member in value},
        "FunctionArn": names.function_arn(item.account, item.region, value["Function"], value["Qualifier"]),
        "LastModified": datetime.fromtimestamp(value["LastModified"], UTC),
        "State": state or ("Enabled" if value["Enabled"] else "Disabled"),
        "StateTransitionReason": "USER_INITIATED" if kind_of(value) == "sqs" else "User action",
        "EventSourceMappingArn": mapping_arn(item.account, item.region, item.name),
    }
    if "StartingPositionTimestamp" in value:
        shown["StartingPositionTimestamp"] = datetime.fromtimestamp(value["StartingPositionTimestamp"], UTC)
    if kind_of(value) in ("kinesis", "dynamodb"):
        shown["LastProcessingResult"] = "No records processed"
    return shown
