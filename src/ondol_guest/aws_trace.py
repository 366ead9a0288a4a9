"""The call's trace header where tracing libraries look for it: the variable _X_AMZN_TRACE_ID.

`os.environ` shows it at once. The process's own environment, which the C library keeps, gets it when something is about to be
started that inherits it: glibc never lets go of a value that a variable once had, so that one for each call would be 160 bytes
of the function's memory for each, for ever. What reads that environment itself, in C, and what multiprocessing spawns may find
an older one.
"""

import os
import sys

NAME = "_X_AMZN_TRACE_ID"
#: What is about to happen when a program or a process is started, in the words of the interpreter's audit events.
STARTS = frozenset(("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"))


def show(trace):
    """`trace` is that of the call under way; None or "": it has none."""
    environ = os.environ
    shown = getattr(environ, "_data", None)  # where a write goes no further
    if shown is None:  # the function has put something else in its place
        if trace:
            environ[NAME] = trace
        else:
            environ.pop(NAME, None)
    elif trace:
        shown[environ.encodekey(NAME)] = environ.encodevalue(trace)
    else:
        shown.pop(environ.encodekey(NAME), None)


def _hand_down(event, _):
    if event in STARTS:
        try:
            value = os.environ.get(NAME)
            if value is None:
                os.unsetenv(NAME)
            else:
                os.putenv(NAME, value)
        except Exception:  # a value that no program can be given: it is started without
            os.unsetenv(NAME)


# For good: an audit hook is never taken back. Forked children have it, too.
sys.addaudithook(_hand_down)
