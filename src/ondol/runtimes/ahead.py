"""Which set of modules a revision's interpreter may have imported before it: decided from what its archives and variables say.

Pure. The sets are the zygote's (`ondol_guest/zygote.py`); what an archive says is found where it is unpacked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ondol.model.functions import Configuration, Revision

#: For people.
DESCRIBED: Final = {"sdk": "boto3 imported ahead"}
#: Read while these modules are imported, by the interpreter or by themselves.
_READ_EARLY: Final = ("PYTHON", "BOTO_DISABLE_CRT", "AWS_LAMBDA_EXEC_WRAPPER")


def imported_ahead(revision: Revision) -> str:
    """The name of a set, or "" for none."""
    configuration = revision.configuration
    codes = [revision.code, *([configuration.opt] if configuration.opt else [])]
    plain = configuration.runtime.startswith("python3.") and not any(code.minds for code in codes)
    if not plain or any(name.startswith(_READ_EARLY) for name in configuration.variables):
        return ""
    asked = {name for code in codes for name in code.asks}
    return next((name for name in DESCRIBED if name in asked), "")


def described(describe: Callable[[Configuration], str], revision: Revision) -> str:
    """What runs a revision, for people: its interpreter, and what that has imported ahead."""
    interpreter, ahead = describe(revision.configuration), imported_ahead(revision)
    return f"{interpreter}, {DESCRIBED[ahead]}" if ahead else interpreter
