"""How far each of Lambda's operations goes here: done, kept, or refused and why. Data; a test compares it with what is served.

The page docs/reference/aws-lambda.md is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

#: Answered by the front, beside the codec.
INVOKING: Final = ("Invoke", "InvokeAsync", "InvokeWithResponseStream")

_MAPPING: Final = "kept, checked and shown; nothing polls the source yet"
_RUNTIME: Final = "kept and shown; a runtime is the interpreter that is installed, and changes with it"
#: What is stored and shown again, and acted on by nothing.
KEPT: Final[Mapping[str, str]] = {
    "CreateEventSourceMapping": _MAPPING,
    "DeleteEventSourceMapping": _MAPPING,
    "GetEventSourceMapping": _MAPPING,
    "ListEventSourceMappings": _MAPPING,
    "UpdateEventSourceMapping": _MAPPING,
    "GetRuntimeManagementConfig": _RUNTIME,
    "PutRuntimeManagementConfig": _RUNTIME,
}

_DURABLE: Final = "durable functions are not built: deploy without DurableConfig, and keep state elsewhere"
#: What is answered NotImplemented, and why.
REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "CheckpointDurableExecution",
            "DeleteDurableExecution",
            "GetDurableExecution",
            "GetDurableExecutionHistory",
            "GetDurableExecutionState",
            "ListDurableExecutionsByFunction",
            "PauseDurableExecution",
            "ResumeDurableExecution",
            "SendDurableExecutionCallbackFailure",
            "SendDurableExecutionCallbackHeartbeat",
            "SendDurableExecutionCallbackSuccess",
            "StopDurableExecution",
        ),
        _DURABLE,
    ),
}

#: What is worth knowing of operations that are done.
NOTES: Final[Mapping[str, str]] = {
    "AddLayerVersionPermission": "asked for other accounts' functions and readers",
    "AddPermission": "asked for other accounts, sessions, functions and URLs; conditions are weighed",
    "CreateCapacityProvider": "a name to attach functions to; instances, networks and vCPU counts are kept and not acted on",
    "CreateCodeSigningConfig": "Enforce lets no code in, as nothing here is signed",
    "CreateFunction": "zip archives, sent along or in the upstream's S3; images are refused",
    "GetFunction": "Code.Location is a link of this node's that works for ten minutes",
    "GetLayerVersion": "Content.Location is a link of this node's that works for ten minutes",
    "Invoke": "TenantId for functions that keep tenants apart",
    "InvokeAsync": "as Invoke with InvocationType Event",
    "InvokeWithResponseStream": "chunks are passed on as they come",
    "PublishVersion": "with a number, or as $LATEST.PUBLISHED; SnapStart is kept and stays Off",
    "PutFunctionScalingConfig": "calls start environments up to the maximum, the minimum is kept up",
    "PutFunctionEventInvokeConfig": "destinations are functions",
    "PutFunctionRecursionConfig": "chains of functions' own calls end after 16 of one function",
    "TagResource": "functions, event source mappings, code signing configurations, capacity providers",
    "UpdateFunctionCode": "as CreateFunction",
}


def table(served: Iterable[str]) -> list[tuple[str, str, str]]:
    """(operation, how far it goes, what to know), in order. `served`: what the control plane has handlers for."""
    rows = []
    for operation in sorted({*served, *INVOKING, *REFUSED}):
        if operation in REFUSED:
            rows.append((operation, "refused", REFUSED[operation]))
        elif operation in KEPT:
            rows.append((operation, "kept", KEPT[operation]))
        else:
            rows.append((operation, "done", NOTES.get(operation, "")))
    return rows
