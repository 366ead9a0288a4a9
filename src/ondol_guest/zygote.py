"""The zygote: an interpreter with its imports done, which forks environments into shells. It never runs user code.

The keeper starts it as `INTERPRETER -I -S /var/runtime/ondol_guest/zygote.py FD`; FD is a SOCK_SEQPACKET line to the front:

    -> {"walls": {"seccomp": 317, "filter": "…", "landlock": {…}}, "ahead": "sdk"}, once: see Walls, AHEAD
    <- {"ready": true, "version": "3.11.7"}, once
    -> {"n": 1, "op": "fork", "namespaces": ["pid", "mnt", …], "bounds": ["memory", "pids"], "ahead": false}
       + [their descriptors, cgroup.procs…]
    <- {"n": 1, "pid": 12} + [wire, log pipe]
    -> {"n": 2, "op": "signal", "pid": 12, "signal": 15}: only to children that have not been waited for
    <- {"n": 2, "pid": 12}
    <- {"exit": 12, "status": 0}, or minus the signal's number

A fork enters the pid namespace by being born there (`setns` before `fork`), everything else by itself, and then gives up every
right before a byte of the function's is read. The end of the line ends the zygote; its children belong to their shells.
"""

import sys

if __name__ == "__main__":
    sys.path.insert(0, "/var/runtime")

import array
import ctypes
import errno
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct

#: What handlers and our guests import; whatever an interpreter lacks is passed over.
WARM = [
    "base64",
    "collections",
    "contextlib",
    "copy",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "importlib.util",
    "inspect",
    "io",
    "itertools",
    "json",
    "logging",
    "math",
    "random",
    "re",
    "site",
    "socket",
    "string",
    "struct",
    "threading",
    "time",
    "traceback",
    "typing",
    "urllib.parse",
    "uuid",
    "ondol_guest.frames",
    "ondol_guest.guest",
    "ondol_guest.aws",
    "ondol_guest.compiling",
    "ondol_guest.executing",
    "ondol_guest.rehearsal",
    "ondol_guest.web",
]

#: Sets of modules that are imported besides, for functions that import just these and do not mind.
AHEAD = {"sdk": ["boto3"]}

MESSAGE_BYTES_MAX = 65536
#: What a fork enters by itself, in this order, as far as it is given them.
NAMESPACES = (("net", 0x40000000), ("mnt", 0x20000), ("ipc", 0x8000000), ("uts", 0x4000000))
NEWPID = 0x20000000
#: Of an environment. A zygote holds far fewer, so that closing all up to here closes all there are, and is quick.
FILES_MAX = 1024
LOCKED_BYTES_MAX = 65536
#: Only where no control group counts processes: it counts all of the account's together.
PROCESSES_MAX = 4096
#: Above what was asked for, where memory is bounded process by process: the interpreter, and the stacks of a hundred threads,
#: of which each counts with the 8 MiB that it may become.
DATA_BYTES_EXTRA = 1024 * 1024 * 1024
EXIT_NOT_STARTED = 70

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 4, 24, 38, 47, 4
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = map(ctypes.c_long, (444, 445, 446))
_ZERO, _MODE_FILTER, _LANDLOCK_BELOW = map(ctypes.c_long, (0, 1, 1))
_libc = ctypes.CDLL(None, use_errno=True)
#: Children that have not been waited for: no other process can have such a pid.
_children = set()


def main(fd):
    """Serve until the line ends."""
    line = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    # More than environments have: the kernel counts the descriptors that a user has under way in messages, whoever sent them,
    # against the sender's limit. A function that leaves as many as it may must not keep us from handing out ours.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    told, _ = receive(line)
    if told is None:
        return
    walls = Walls(told["walls"])
    warm(AHEAD.get(told.get("ahead"), []))
    importlib.import_module("ondol_guest.settling").settle()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _woken)
    send(line, {"ready": True, "version": sys.version.split()[0]})
    poll = select.poll()
    poll.register(line, select.POLLIN)
    poll.register(reader, select.POLLIN)
    while True:
        ready = [number for number, _ in poll.poll()]
        if reader in ready:
            _drain(reader)
            report_ended(line)
        if line.fileno() in ready and not serve_one(line, walls):
            return


def warm(besides=()):
    """Import what guests need, and make what they share stay shared."""
    gc.disable()  # what is imported stays; a child enables it
    for name in WARM + list(besides):
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError):
            continue  # this interpreter, or this release, has none
    sys.path_importer_cache.clear()
    gc.collect()
    gc.freeze()


def serve_one(line, walls):
    """Answer one request; whether the line goes on."""
    message, fds = receive(line)
    if message is None:
        return False
    answer, ours = {"n": message.get("n"), "error": "unknown"}, []
    try:
        if message.get("op") == "fork":
            pid, ours = fork(message["namespaces"], fds, walls, message.get("bounds", []), message.get("ahead", False))
            _children.add(pid)
            answer = {"n": message["n"], "pid": pid}
        elif message.get("op") == "signal":
            if message["pid"] in _children:
                os.kill(message["pid"], message["signal"])
            answer = {"n": message["n"], "pid": message["pid"]}
    except OSError as error:
        answer = {"n": message.get("n"), "error": "failed", "message": str(error)}
    finally:
        for fd in fds:
            os.close(fd)
    unsent = send(line, answer, ours)
    if unsent is not None and ours:  # the kernel counts descriptors under way for the user, functions' among them
        send(line, {"n": message.get("n"), "error": "failed", "message": "a new process cannot be handed over: %s" % unsent})
    for fd in ours:
        os.close(fd)  # whoever was forked and not handed over sees the end of its wire, and leaves
    return True


def fork(names, fds, walls, bounds, ahead):  # noqa: PLR0917
    """(pid, [wire, log pipe]) of a new environment in the shell whose namespaces (by `names`) and cgroup files `fds` are.

    `bounds`: what its control groups bound; `ahead`: nobody waits for it yet.
    """
    namespaces = dict(zip(names, fds))  # noqa: B905  (as long as the names go)
    wire, wire_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    log, log_inside = os.pipe()
    inside = (wire_inside.detach(), log_inside)
    try:
        # No way back is needed: a pid namespace is entered by children only, and the next fork names its own.
        _call(_libc.setns(namespaces["pid"], NEWPID), "setns pid")
        pid = os.fork()
    except OSError:
        os.close(log)
        wire.close()
        raise
    finally:
        if "pid" not in locals() or pid:
            for fd in inside:
                os.close(fd)
    if pid == 0:
        become_environment(inside[0], log_inside, namespaces, fds[len(names) :], walls, bounds, ahead)
    return pid, [wire.detach(), log]


def become_environment(wire, log, namespaces, cgroups, walls, bounds, ahead):  # noqa: PLR0917
    """Never returns. Enter the shell, give up everything, run the guest."""
    status = EXIT_NOT_STARTED
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but([wire] + list(namespaces.values()) + cgroups)
        for fd in cgroups:
            os.write(fd, b"0")
        for name, kind in NAMESPACES:
            if name in namespaces:
                _call(_libc.setns(namespaces[name], kind), "setns " + name)
        close_all_but([wire])
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.setsid()
        set_limits(counted="pids" in bounds)
        drop_rights()
        walls.confine()
        walls.filter()
        guest = importlib.import_module("ondol_guest.guest")
        gc.enable()
        status = guest.run(wire, None if "memory" in bounds else bound_memory, ahead=ahead)
    except BaseException as error:
        os.write(2, ("ondol: the environment could not start: %s: %s\n" % (type(error).__name__, error)).encode())
    finally:
        os._exit(status if isinstance(status, int) else 0)


def set_limits(counted):
    """Bounds of one process. `counted`: a control group bounds the number of processes."""
    limits = [
        (resource.RLIMIT_NOFILE, FILES_MAX),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, LOCKED_BYTES_MAX),
    ]
    if not counted:
        limits.append((resource.RLIMIT_NPROC, PROCESSES_MAX))
    for which, value in limits:
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)  # noqa: PLW2901
        resource.setrlimit(which, (value, value))


def bound_memory(settings):
    """What this process, and each that it starts, may hold of memory of its own, where no control group bounds them together.

    Only accidents end there: what processes share (shared maps, memfd) does not count, and each process has as much again.
    """
    told = settings.get("exec", settings)
    limit = told["memory_mib"] * 1024 * 1024 + DATA_BYTES_EXTRA
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def drop_rights():
    """No capability now or after any exec; but readable to itself, as any program is."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # the kernel knows no more
            _call(-1, "dropping a capability")
    _call(_libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_CLEAR_ALL), 0, 0, 0), "clearing ambient capabilities")
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _call(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "no_new_privs")
    _call(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0), "dumpable")


class Walls:
    """What a child puts up around itself, last thing before the guest; made ready here, so that a child has only to call.

    `told`: "seccomp", the number of that system call; "filter", a program for it in hexadecimal digits, or ""; "landlock",
    null or a domain: "handled" and "scoped" rights, "flags" of its last call, and "paths" with what is right below each.
    """

    def __init__(self, told):
        program = bytes.fromhex(told["filter"])
        self._seccomp = ctypes.c_long(told["seccomp"])
        self._program = ctypes.create_string_buffer(program, len(program))
        self._argument = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(self._program))
        domain = told["landlock"] or {"handled": 0, "scoped": 0, "flags": 0, "paths": []}
        #: Older kernels take what they know.
        self._domain = struct.pack("=QQQ", domain["handled"], 0, domain["scoped"])[: 24 if domain["scoped"] else 8]
        self._flags = ctypes.c_long(domain["flags"])
        self._paths = [(path.encode(), rights) for path, rights in domain["paths"]]

    def confine(self):
        """By Landlock, where the kernel has it."""
        if not self._paths:
            return
        size = ctypes.c_long(len(self._domain))
        ruleset = _call(_libc.syscall(_LANDLOCK_CREATE, self._domain, size, _ZERO), "landlock_create_ruleset")
        for path, rights in self._paths:
            at = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", rights, at)
            _call(_libc.syscall(_LANDLOCK_ADD, ctypes.c_long(ruleset), _LANDLOCK_BELOW, rule, _ZERO), "landlock_add_rule")
            os.close(at)
        _call(_libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_long(ruleset), self._flags), "landlock_restrict_self")
        os.close(ruleset)

    def filter(self):
        """No more of what a zygote may and a function may not: the zygote's own filter, which is inherited, has the rest."""
        if len(self._program):
            _call(_libc.syscall(self._seccomp, _MODE_FILTER, _ZERO, self._argument), "seccomp")


def report_ended(line):
    """Tell of every child that is gone."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _children.discard(pid)
        send(line, {"exit": pid, "status": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)})


def send(line, message, fds=()):
    """One message; the error, if it could not be sent. A front that is gone ends us at the next read."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        line.setblocking(True)
        line.sendmsg([json.dumps(message).encode()], ancillary)
    except OSError as error:
        return error
    return None


def receive(line):
    """(message, descriptors), or (None, []) at the end."""
    size = array.array("i").itemsize
    try:
        data, ancillary, _, _ = line.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(16 * size), socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None, []
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % size])
    return (json.loads(data) if data else None), list(fds)


def close_all_but(keep):
    """Every descriptor above 2 that is not in `keep`: fork does not honour close-on-exec."""
    start = 3
    for fd in sorted(set(keep)):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, FILES_MAX)


def _call(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (what, os.strerror(number)))
    return result


def _woken(number, frame):
    """The wake-up pipe has it already."""


def _drain(reader):
    try:
        while os.read(reader, 4096):
            pass
    except BlockingIOError:
        return


if __name__ == "__main__":
    from ondol_guest import zygote  # not as __main__: that name is the function's to look at  # noqa: PLW0406

    zygote.main(int(sys.argv[1]))
