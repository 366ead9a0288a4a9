"""A guest in an interpreter that was executed for it alone: `INTERPRETER …/ondol_guest/executed.py`, behind walls that stand.

The wire is open at the descriptor that _ONDOL_WIRE names, the settings are in _ONDOL_GUEST; see executing.py. The variables are
those that are found: a wrapper may have changed them, and with them the handler.
"""

import sys

if __name__ == "__main__":
    sys.path[0] = __file__.rpartition("/ondol_guest/")[0]

import json
import os

from ondol_guest import executing, guest


def main():
    """Never returns."""
    wire = int(os.environ.pop(executing.WIRE))
    os.set_inheritable(wire, False)
    settings = json.loads(os.environ.pop(executing.GUEST))
    os.environ.pop("_ONDOL_PLACES", None)
    settings["variables"] = dict(os.environ)
    settings["handler"] = os.environ.get("_HANDLER", settings["handler"])
    guest.run(wire, told=settings)


if __name__ == "__main__":
    from ondol_guest import executed  # not as __main__: that name is the function's to look at  # noqa: PLW0406

    executed.main()
