"""The hot path's accelerator: C for the usual shape of a request, where a compiler was there when Ondol was installed.

`hot` has the functions of `_hot.c`. Each answers None for what is not of the usual shape, and its caller goes on in Python;
where the accelerator was not built, or ONDOL_ACCELERATOR=off says so, every one of them answers None. So both ways answer the
same, and one of them faster. `use` is for tests and benchmarks.
"""

from __future__ import annotations

import os
from typing import Any, Final, TypeAlias

#: The edition of `_hot.c` that this code goes with: an older build is left alone.
EDITION: Final = 1
#: Bodies up to this are hashed by the accelerator; hashlib has the faster code for long ones.
HASHED_BYTES_MAX: Final = 2048
#: Heads with more fields than this are not of the usual shape.
HEADERS_MAX: Final = 64

VARIABLE: Final = "ONDOL_ACCELERATOR"

#: method, target, headers, values by name, body.
Taken: TypeAlias = tuple[str, str, list[tuple[str, str]], dict[str, str], bytes]


def _nothing(*_: Any) -> None:
    """Leaves it to Python."""


class Hot:
    """The functions, looked up at each call so that they can be exchanged. Types and shapes: `_hot.pyi`, `_hot.c`."""

    __slots__ = ("built", "canonical", "holds", "keyed", "render", "take_request", "take_result", "trace_of", "uuid_of")

    def __init__(self) -> None:
        self.use(None)

    def use(self, module: Any) -> None:
        """Take the functions of `module`, or leave all to Python."""
        self.built = module is not None
        self.take_request: Any = getattr(module, "take_request", _nothing)
        self.render: Any = getattr(module, "render", _nothing)
        self.canonical: Any = getattr(module, "canonical", _nothing)
        self.keyed: Any = getattr(module, "keyed", _nothing)
        self.holds: Any = getattr(module, "holds", _nothing)
        self.take_result: Any = getattr(module, "take_result", _nothing)
        self.uuid_of: Any = getattr(module, "uuid_of", _nothing)
        self.trace_of: Any = getattr(module, "trace_of", _nothing)


def built() -> Any:
    """The module, if it was built for this code and this interpreter."""
    try:
        from ondol import _hot
    except ImportError:
        return None
    return _hot if _hot.EDITION == EDITION else None


def mend() -> str:
    """What puts it to work."""
    if built() is not None:
        return f"unset {VARIABLE}"
    return "apt install gcc python3-dev, then install Ondol again (make run, once .venv is removed)"


def state() -> tuple[bool, str]:
    """Whether it is at work, and in words."""
    if hot.built:
        return True, "built, at work"
    if built() is not None:
        return False, f"built, switched off by {VARIABLE}={os.environ.get(VARIABLE, '')}"
    return False, "not built"


hot: Final = Hot()
if os.environ.get(VARIABLE, "on").lower() not in ("off", "0", "no", "false"):
    hot.use(built())
