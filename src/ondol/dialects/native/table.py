"""Every operation of `/ondol/v1`, in the order of its documentation. A part that is not listed here is not served."""

from __future__ import annotations

from typing import Final

from ondol.dialects.native import calls, events, functions, keys, logs, node, pins, records, versions
from ondol.dialects.native.operations import Operations

TABLE: Final = Operations(
    [
        *functions.OPERATIONS,
        *versions.OPERATIONS,
        *pins.OPERATIONS,
        *calls.OPERATIONS,
        *logs.OPERATIONS,
        *events.OPERATIONS,
        *records.OPERATIONS,
        *keys.OPERATIONS,
        *node.OPERATIONS,
    ]
)
