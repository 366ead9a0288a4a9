"""How often a chain of calls has come back to a function, carried in the trace header (`Lineage=1:HASH:COUNT|…`). Pure.

Only functions' own calls make a chain longer: SDKs inside functions send the header on by themselves.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

#: Calls of one function in one chain; that many outcomes of deferred calls may follow each other, too.
CALLS_MAX: Final = 16
#: Functions that are remembered in one chain.
ENTRIES_MAX: Final = 16
_LINEAGE: Final = re.compile(r"(?:^|;)\s*Lineage=([^;]*)", re.ASCII)
_ENTRY: Final = re.compile(r"1:([0-9a-f]{8}):(\d{1,4})", re.ASCII)


def lengthened(trace: str, function: str) -> tuple[str, int]:
    """The header with one call more of `function`, and how many that makes."""
    found = _LINEAGE.search(trace)
    counts = {digits: int(count) for digits, count in _ENTRY.findall(unquote(found[1]))} if found else {}
    mark = _mark(function)
    count = counts.pop(mark, 0) + 1
    counts[mark] = count
    entries = "|".join(f"1:{digits}:{each}" for digits, each in list(counts.items())[-ENTRIES_MAX:])
    rest = _LINEAGE.sub("", trace)
    return f"{rest};Lineage={entries}", count


@lru_cache(maxsize=4096)
def _mark(function: str) -> str:
    return hashlib.sha256(function.encode()).hexdigest()[:8]
