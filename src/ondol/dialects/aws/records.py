"""What a destination is told of an asynchronous call: Lambda's invocation record, version 1.0, in the form that was recorded.

A call that ended without a try of the function has no response in its record.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ondol.core.outcomes import Ended
from ondol.dialects.aws.names import LATEST, function_arn, version_name
from ondol.model.deferrals import Ending

CONDITIONS: Final = {
    Ending.SUCCEEDED: "Success",
    Ending.RETRIES_EXHAUSTED: "RetriesExhausted",
    Ending.TOO_OLD: "EventAgeExceeded",
    Ending.NO_CONCURRENCY: "ZeroReservedConcurrency",
    # No record of these two was found: they are named as the others are.
    Ending.GONE: "ResourceNotFound",
    Ending.CHAIN_TOO_LONG: "RecursiveInvocation",
}
_RAW: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


def record(ended: Ended) -> bytes:
    """JSON."""
    item, tried = ended.item, ended.tried
    told: dict[str, Any] = {
        "version": "1.0",
        "timestamp": _timestamp(ended.at_s),
        "requestContext": {
            "requestId": item.id,
            "functionArn": function_arn(item.account, item.region, item.name, item.qualifier or LATEST),
            "condition": CONDITIONS[ended.ending],
            "approximateInvokeCount": ended.tries,
        },
        "requestPayload": _embedded(item.payload),
    }
    if tried is not None:
        told["responseContext"] = {"statusCode": 200, "executedVersion": version_name(tried.version)}
        if not tried.succeeded:
            told["responseContext"]["functionError"] = "Unhandled"
        told["responsePayload"] = _embedded(tried.body)
    return msgspec.json.encode(told)


def _embedded(payload: bytes) -> Any:
    """JSON as it is, to the byte; anything else as text."""
    return msgspec.Raw(payload) if _is_json(payload) else payload.decode("utf-8", "replace")


def _is_json(payload: bytes) -> bool:
    try:
        _RAW.decode(payload)
        return bool(payload.decode())
    except (UnicodeDecodeError, RecursionError):
        return False
    except msgspec.DecodeError:
        # Half a surrogate pair, escaped, is what msgspec alone refuses: Lambda and Python's json let it pass.
        return b"\\ud" in payload.lower() and _python_reads(payload)


def _python_reads(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return True


def _timestamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
