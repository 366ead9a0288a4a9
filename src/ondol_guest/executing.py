"""A forked child becomes another program: what INIT's "exec" asks for, in place of a contract's module.

    argv       the program, by its absolute path, and its arguments
    instead    other places of it, tried in this order where it is not a file
    variables  the whole environment. Where _LAMBDA_TELEMETRY_LOG_FD is among them, the log is to be had by that number, too:
               runtimes' own clients write whole records there (frames.py: log frames)
    cwd        working directory
    memory_mib  as in INIT
    wire       true: the wire stays open, and its number is in the variable _ONDOL_WIRE. The program reads an INIT of its own
               from it, not a byte of which was taken here. False: the wire closes when the program is there: so the node knows
    settings   with the wire: what a guest of ours is to be told there, handed over in the variable _ONDOL_GUEST instead of a
               second INIT, with "began_s", when this began

Everything else stays as the walls have it: none of them is lost by an exec. A program that cannot be executed: without the
wire, INIT_FAILED with {"exec": path, "errno": number}; with it, a line in the log and a shell's exit status.
"""

import json
import os
import signal

from ondol_guest import frames

#: Names the wire's descriptor to a program that shall go on speaking on it.
WIRE = "_ONDOL_WIRE"
#: The lowest that a program does not count on: those that close what they shall not pass on stop where a number is missing.
WIRE_FD = 3
#: Holds the settings of a guest that goes on in another interpreter.
GUEST = "_ONDOL_GUEST"
LOG = "_LAMBDA_TELEMETRY_LOG_FD"
#: A shell's exit statuses for a program that is not there, and for one that cannot be executed.
NOT_THERE, NOT_EXECUTABLE = 127, 126


def execute(told, wire):
    """Become what `told` says. Never returns."""
    variables = dict(told["variables"])
    if told.get("wire"):
        if wire.fd != WIRE_FD:
            os.dup2(wire.fd, WIRE_FD)
        os.set_inheritable(WIRE_FD, True)
        variables[WIRE] = str(WIRE_FD)
        if "settings" in told:
            variables[GUEST] = json.dumps(dict(told["settings"], began_s=wire.began_s))
    elif LOG in variables:
        os.dup2(1, int(variables[LOG]))
    # What an interpreter ignores, and a program that was started by anything else does not.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    program = found(told["argv"][0], told.get("instead", []))
    try:
        os.chdir(told["cwd"])
        os.execve(program, [program] + told["argv"][1:], variables)  # noqa: S606  # that is what it is for
    except OSError as error:
        failed(program, error, wire, kept=told.get("wire"))


def found(program, instead):
    """The first of these places where there is a file, else the first."""
    return next((place for place in [program] + instead if os.path.isfile(place)), program)


def failed(program, error, wire, kept):  # noqa: PLR0917
    """Tell why, and end."""
    if kept:
        os.write(2, ("%s: %s\n" % (program, os.strerror(error.errno))).encode("utf-8", "surrogateescape"))
    else:
        wire.send_meta(frames.INIT_FAILED, 0, {"exec": program, "errno": error.errno})
    os._exit(NOT_THERE if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)
