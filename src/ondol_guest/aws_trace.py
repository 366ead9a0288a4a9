"""The call's trace header where tracing libraries look for it: the variable _X_AMZN_TRACE_ID.

The C library never lets go of a value that a variable once had, so that one for each call would be 160 bytes of the function's
memory for each, for ever. So the process's environment is given one piece of memory of ours, in which each call's header takes
the place of the last one's: what a handler starts, and what reads that environment in C, finds it there as in `os.environ`.
"""

import os

try:
    import ctypes

    _putenv = ctypes.CDLL(None).putenv
except (ImportError, AttributeError, OSError):  # an interpreter without: each value is kept then
    _putenv = None

NAME = "_X_AMZN_TRACE_ID"
_KEY, _PREFIX = NAME.encode(), NAME.encode() + b"="
#: AWS's own headers take some seventy bytes. A longer one is set as any variable is.
BYTES_MAX = 1000
_room = ctypes.create_string_buffer(len(_PREFIX) + BYTES_MAX + 1) if _putenv else None
#: What the room holds, while it is the variable.
_last = None


def show(trace):
    """`trace` is that of the call under way; None or "": it has none."""
    global _last
    environ = os.environ
    shown = getattr(environ, "_data", None)  # where a write goes no further
    if trace and _putenv and shown is not None and len(trace) <= BYTES_MAX and trace.isascii() and "\0" not in trace:
        value = trace.encode()
        _room.value = _PREFIX + value
        if _last is None or shown.get(_KEY) != _last:  # it is not there, or the function has put another in its place
            _putenv(_room)
        shown[_KEY] = _last = value
    else:
        _last = None
        if trace:
            environ[NAME] = trace
        else:
            environ.pop(NAME, None)
