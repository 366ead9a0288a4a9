"""The start of a guest that was executed, not forked by a zygote: descriptor 0 is the wire, 1 and 2 are the log.

    INTERPRETER -I -S …/ondol_guest/launched.py [options]

    --init            a first process of our own stays above the guest: it reaps, and ends as the guest ended
    --parent PID      end when this process is no more our parent
    --task PATH       where the function's code is, if not at /var/task
    --brought PATH    where what Ondol brings is, if not at /var/runtime
    --opt PATH        where the function's layers are, if not at /opt
    --walls JSON      what `zygote.Walls` is told: a filter of system calls, and Landlock's rules
    --tmp PATH        what TMPDIR says
    --appear UID:GID  be this user to whoever asks, whatever user started us, and have no right over anything
    --bounds WORDS    what a control group bounds (memory,pids); limits of each process bound the rest

One byte on the wire says that the guest waits for INIT. Whoever started this has chosen what the process can see and do; this
only gives up the rest: new privileges, and what user code must not inherit.
"""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/ondol_guest/")[0])

import ctypes
import gc
import json
import os
import resource
import signal

from ondol_guest import guest, zygote

READY = b"+"
TASK, BROUGHT, OPT = "/var/task", "/var/runtime", "/opt"
#: Variables that hold paths of the function's surroundings; others are the function's own business.
PATHS = ("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "PATH", "LD_LIBRARY_PATH", "PYTHONPATH")

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_CLONE_NEWUSER = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


class Options:
    """The command line."""

    def __init__(self, argv):
        self.init = False
        self.parent = 0
        self.task = self.brought = self.opt = self.tmp = self.walls = ""
        self.bounds = []
        self.appear = ""
        words = iter(argv)
        for word in words:
            if word == "--init":
                self.init = True
            elif word == "--bounds":
                self.bounds = next(words).split(",")
            elif word == "--parent":
                self.parent = int(next(words))
            elif word in ("--task", "--brought", "--opt", "--tmp", "--appear", "--walls"):
                setattr(self, word[2:], next(words))
            else:
                raise SystemExit("launched: unknown option " + word)


def main(argv):
    """Never returns: the process ends as the guest does."""
    options = Options(argv)
    wire = os.dup(0)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
    if options.appear:
        appear(*options.appear.split(":"))
    if options.init:
        stay_above(wire, options.parent)
    elif options.parent:
        die_with(options.parent, signal.SIGKILL)
    zygote.set_limits(counted="pids" in options.bounds)
    zygote.warm()
    gc.enable()
    if options.walls:
        walls = zygote.Walls(json.loads(options.walls))
        walls.confine()
        walls.filter()
    os.write(wire, READY)
    os._exit(guest.run(wire, lambda settings: adapt(settings, options)) or 0)


def appear(uid, gid):
    """Give our one user another name, in a user namespace of our own, and then have no right in there either."""
    was = os.getuid(), os.getgid()
    check(_libc.unshare(_CLONE_NEWUSER), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", "%s %d 1" % (uid, was[0])), ("gid_map", "%s %d 1" % (gid, was[1]))):
        try:
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
        except OSError:  # gVisor has no such file to write in, and does not ask for it
            if name != "setgroups":
                raise
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # the kernel knows no more
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def check(result, what):
    """Raise what the C library's call left as its error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, what + ": " + os.strerror(number))


def adapt(settings, options):
    """What INIT says, as it is here: paths, and limits of the process where nothing else bounds it."""
    places = {TASK: options.task or TASK, BROUGHT: options.brought or BROUGHT, OPT: options.opt or OPT}
    told = settings.get("exec", settings)
    told["cwd"] = moved(told["cwd"], places)
    for name in ("path", "path_last", "argv", "instead"):
        told[name] = [moved(path, places) for path in told.get(name, [])]
    if "settings" in told:
        within = told["settings"]
        within["cwd"] = told["cwd"]
        for name in ("path", "path_last"):
            within[name] = [moved(path, places) for path in within[name]]
    variables = told["variables"]
    if told.get("wire"):  # it reads an INIT of its own, with the places that shells have
        variables["_ONDOL_PLACES"] = json.dumps({"places": places, "tmp": options.tmp})
    for name in PATHS:
        if name in variables:
            variables[name] = ":".join(moved(path, places) for path in variables[name].split(":"))
    if options.tmp:
        variables.setdefault("TMPDIR", options.tmp)
    if "memory" not in options.bounds:
        zygote.bound_memory(settings)
    sys.dont_write_bytecode = True


def moved(path, places):
    """`path` below the directory that stands in its place here."""
    for place, here in places.items():
        if path == place or path.startswith(place + "/"):
            return here + path[len(place) :]
    return path


def stay_above(wire, parent):
    """Fork; the child returns. The parent reaps until that child has ended, ends the rest, and ends as the child did."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    above = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(above, signal.SIGKILL)
        return
    os.close(wire)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)
    signal.signal(signal.SIGTERM, lambda *_: end_as(above, signal.SIGKILL))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if parent:
        die_with(parent, signal.SIGTERM)
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if pid == child:
            end_as(above, status)


def end_as(above, status):
    """End all below, then in the way that the wait status `status` tells (a first process cannot die of a signal: 128 more)."""
    while True:
        left = below(above)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        if not left:
            break
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(above, number)
    os._exit(128 + number)


def below(above):
    """Every living process under `above`."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                parents.setdefault(int(fields[1]), []).append(int(name))
    found = [above]
    for pid in found:
        found += parents.get(pid, [])
    return found[1:]


def die_with(parent, number):
    """Have the kernel send `number` when `parent` ends; leave at once if it has ended already."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    from ondol_guest import launched  # not as __main__: that name is the function's to look at  # noqa: PLW0406

    launched.main(sys.argv[1:])
