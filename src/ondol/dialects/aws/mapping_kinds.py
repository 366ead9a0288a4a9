"""The kinds of event sources: what a mapping of each has when nobody says, and what is refused. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ondol.dialects.aws import refusals
from ondol.dialects.aws.service import ServiceError

Read = Mapping[str, Any]

_STREAM: Final[Read] = {
    "BatchSize": 100, "MaximumBatchingWindowInSeconds": 0, "ParallelizationFactor": 1, "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1, "TumblingWindowInSeconds": 0, "BisectBatchOnFunctionError": False,
    "DestinationConfig": {"OnFailure": {}}, "FunctionResponseTypes": [],
}  # fmt: skip
_BATCH: Final[Read] = {"BatchSize": 100, "MaximumBatchingWindowInSeconds": 0}

#: By the service in the source's ARN; "self" for Kafka of one's own.
DEFAULTS: Final[Mapping[str, Read]] = {
    "sqs": {"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []},
    "kinesis": _STREAM,
    "dynamodb": _STREAM,
    "kafka": _BATCH,
    "mq": _BATCH,
    "rds": _BATCH,
    "self": _BATCH,
}
_STREAMS: Final = ("kinesis", "dynamodb")
_POSITIONED: Final = (*_STREAMS, "kafka", "self", "rds")
#: Above this, a queue's batch needs a window to be gathered in.
_QUEUE_BATCH_PLAIN: Final = 10
_NULL: Final = (
    "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."
)


def kind_of(value: Read) -> str:
    """Raises "Unrecognized event source."."""
    if value.get("SelfManagedEventSource"):
        return "self"
    parts = (value.get("EventSourceArn") or "").split(":")
    kind = parts[2] if len(parts) >= 6 else ""
    if kind not in DEFAULTS:
        raise refusals.invalid("Unrecognized event source.")
    return kind


def check(kind: str, value: Read) -> None:
    """Raise what the service says of settings that do not go together."""
    position = value.get("StartingPosition")
    if kind in _POSITIONED and not position:
        raise refusals.invalid(_NULL)
    if kind == "dynamodb" and position == "AT_TIMESTAMP":
        raise refusals.invalid(f"Unsupported starting position for arn type: {value['EventSourceArn']}")
    if kind == "sqs":
        if value["BatchSize"] > _QUEUE_BATCH_PLAIN and not value["MaximumBatchingWindowInSeconds"]:
            raise refusals.invalid(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
            )
        if value.get("DestinationConfig"):
            raise refusals.invalid("Unsupported DestinationConfig parameter for given event source mapping type.")
    for given in (value.get("FilterCriteria") or {}).get("Filters") or []:
        if not _is_pattern(given.get("Pattern")):
            raise refusals.invalid("Invalid filter pattern definition.")


def taken(kind: str, value: Read, function_arn: str, twin: str) -> ServiceError:
    """What is said of a mapping that there is already."""
    name, source = function_arn.rpartition(":")[2], value.get("EventSourceArn")
    end = f"already exists. Please update or delete the existing mapping with UUID {twin}"
    if kind == "sqs":
        return refusals.conflict(f'An event source mapping with SQS arn (" {source} ") and function (" {name} ") {end}')
    if kind in _STREAMS:
        return refusals.conflict(f'The event source arn (" {source} ") and function (" {name} ") provided mapping {end}')
    endpoints = (value.get("SelfManagedEventSource") or {}).get("Endpoints") or {}
    servers = ",".join(each for listed in endpoints.values() for each in listed) or source
    topics = ",".join(value.get("Topics") or value.get("Queues") or ())
    return refusals.conflict(
        f'An event source mapping with event source ("{servers}"), function ("{function_arn}"), topics ("{topics}") {end}'
    )


def _is_pattern(text: Any) -> bool:
    """A filter is a JSON object whose leaves are lists of what may stand there."""
    try:
        return _is_level(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return False


def _is_level(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(each, list) or _is_level(each) for each in found.values())
