"""Bounds that hold everywhere; each carries its unit in its name. A room's own tunable limits are in config.py."""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

#: An archive as uploaded, and what it may unpack to (files, with layers later).
CODE_ZIPPED_BYTES_MAX: Final = 52_428_800
CODE_UNPACKED_BYTES_MAX: Final = 262_144_000
#: Entries in one archive: bounds inodes and the time to unpack.
CODE_ENTRIES_MAX: Final = 100_000

SYNC_PAYLOAD_BYTES_MAX: Final = 6 * MIB
DEFERRED_PAYLOAD_BYTES_MAX: Final = 1 * MIB
#: Tries after the first, and how old a deferred call may get; both are what holds where an owner says nothing.
DEFERRED_RETRIES_MAX: Final = 2
DEFERRED_AGE_S_MIN: Final = 60
DEFERRED_AGE_S_MAX: Final = 21_600
#: 6 MiB and room for an envelope.
RESULT_BYTES_MAX: Final = 6 * MIB + 100
#: What an answer to an event may stream.
STREAM_BYTES_MAX: Final = 200 * MIB

MEMORY_MIB_MIN: Final = 128
MEMORY_MIB_MAX: Final = 10_240
TIMEOUT_S_MIN: Final = 1
TIMEOUT_S_MAX: Final = 900
TMP_MIB_MIN: Final = 512
TMP_MIB_MAX: Final = 10_240
ENVIRONMENT_BYTES_MAX: Final = 4096
INIT_S_MAX: Final = 10.0

CONCURRENCY_PER_ACCOUNT: Final = 1000
LOG_TAIL_BYTES: Final = 4096
#: What a tenant may be called: it goes into headers and logs.
TENANT_CHARS_MAX: Final = 256
TENANT_PATTERN: Final = r"[a-zA-Z0-9\._:\/=+\-@ ]+"
#: One log event; longer lines are cut into pieces of this size.
LOG_EVENT_BYTES_MAX: Final = 262_144 - 26
