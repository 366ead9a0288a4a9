"""Python functions whose settings only an exec can follow: variables that a linker or an interpreter reads when it starts, and
a wrapper that starts the interpreter. Pure.

A forked guest has an interpreter that started long ago. So the child executes a fresh one, which finds the wire kept open, and
the guest's settings in a variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

#: Names the program that is started in the interpreter's place, with the interpreter and its arguments as its own.
WRAPPER: Final = "AWS_LAMBDA_EXEC_WRAPPER"
_AT_START: Final = re.compile(r"LD_[A-Z_]+|PYTHON[A-Z0-9_]+|MALLOC_[A-Z_]+|GLIBC_TUNABLES")
_SCRIPT: Final = "/var/runtime/ondol_guest/executed.py"


def why(variables: Mapping[str, str]) -> str:
    """Which of a function's own variables make an exec needed, for people; "": none do."""
    found = sorted(name for name in variables if name == WRAPPER or _AT_START.fullmatch(name))
    return ", ".join(found)


def told(settings: Mapping[str, Any], interpreter: str) -> dict[str, Any]:
    """What a child is told to become (`ondol_guest.executing`), from what a forked guest would be told."""
    variables = settings["variables"]
    wrapper = variables.get(WRAPPER)
    guest = {name: value for name, value in settings.items() if name != "variables"}
    own_path = [place for place in variables.get("PYTHONPATH", "").split(":") if place]
    guest["path"] = [*settings["path"], *own_path]
    return {
        "argv": [*([wrapper] if wrapper else []), interpreter, _SCRIPT],
        "variables": dict(variables),
        "cwd": settings["cwd"],
        "memory_mib": settings["memory_mib"],
        "wire": True,
        "settings": guest,
    }
