"""The guest's frame: INIT, the process's view of the world, the lines to the node. What a handler is, contracts' modules know.

The zygote forks, enters the shell and calls `run(wire_fd)`, with file descriptors 1 and 2 on the log pipe. INIT is JSON:

    guest      module of ondol_guest with `serve(wire, settings)`
    handler    as the function's owner wrote it
    runtime    as the owner asked for it ("python3.11"); what runs may be another
    variables  the whole environment
    memory_mib, timeout_s
    cwd        working directory, first place that modules come from
    path       searched before the standard library
    path_last  searched after it
    waits      true: the code is not there yet, but when it is mounted at cwd, or with the frame ATTACHED, which comes next

or only "exec", with a program that this process is to become: see executing.py.

Invariants: nothing of the node's or the zygote's environment is left when user code runs; the first CALL may already be in the
wire while INIT is worked on; a process forked by user code holds no wire.
"""

import importlib
import io
import json
import os
import sys
import threading
import time

from ondol_guest import frames

READ_BYTES = 16_384
#: A log record is cut into frames of this size: with its header it is one event of the node's.
LOG_TEXT_BYTES_MAX = 262_144 - 26

#: What any interpreter that logs and reads JSON has loaded before a function's first line, on all versions: its own modules
#: of these names cannot win there either.
ALWAYS_LOADED = frozenset(
    (
        *("abc", "ast", "builtins", "codecs", "collections", "contextlib", "copyreg", "dis", "encodings", "enum", "errno"),
        *("functools", "genericpath", "importlib", "inspect", "io", "itertools", "json", "keyword", "linecache", "logging"),
        *("marshal", "opcode", "operator", "os", "posix", "posixpath", "re", "reprlib", "signal", "site", "sre_compile"),
        *("sre_constants", "sre_parse", "stat", "string", "sys", "textwrap", "threading", "time", "token", "tokenize"),
        *("traceback", "types", "typing", "warnings", "weakref", "zipimport"),
    )
)


#: The time zone of functions that ask for no other: its file is read ahead.
USUAL_ZONE = ":UTC"

#: Done first in a process that user code forks; what serves a call puts itself here.
after_fork = []


def _forked():
    for each in after_fork[:]:
        each()


os.register_at_fork(after_in_child=_forked)


class Gone(Exception):  # noqa: N818  # what happened
    """The node closed the wire: nobody is left to answer to."""


class Log:
    """The log pipe: raw text through `sys.stdout` and `sys.stderr`, whole records as log frames, in the order written.

    A lock keeps one thread's text out of another's frame. It is re-entrant, for a signal handler that prints, and new in
    every forked child.
    """

    def __init__(self, fd=1):
        #: Its own descriptor, so that records survive what user code does to 1 and 2.
        self.fd = os.dup(fd)
        self._renew_lock()
        after_fork.append(self._renew_lock)

    def _renew_lock(self):
        self.lock = threading.RLock()

    def record(self, text):
        """Write `text` as one event."""
        data = text.encode("utf-8", "replace")
        at_us = time.time_ns() // 1000
        with self.lock:
            for start in range(0, len(data) or 1, LOG_TEXT_BYTES_MAX):
                piece = data[start : start + LOG_TEXT_BYTES_MAX]
                write_all(self.fd, frames.LOG_HEADER.pack(frames.LOG_MAGIC, len(piece), at_us), piece)

    def mark_loaded(self):
        """Tell the log's reader that loading is over: what follows belongs to calls."""
        write_all(self.fd, frames.LOG_HEADER.pack(frames.LOG_MARK, 0, time.time_ns() // 1000))


class Out(io.TextIOWrapper):
    """A standard stream that keeps nothing back: what is written is in the pipe when `write` returns."""

    def __init__(self, fd, errors, log):
        super().__init__(open(fd, "wb", closefd=False), encoding="utf-8", errors=errors, newline="\n")  # noqa: SIM115
        self._log = log
        self.mode = "w"

    def write(self, text):
        with self._log.lock:
            count = super().write(text)
            self.flush()
        return count


class Wire:
    """The stream of frames to and from the node, blocking. Sending is for any thread, receiving for one at a time."""

    def __init__(self, fd, log):
        self.fd = fd
        self.log = log
        #: When INIT was read, on the monotonic clock: what loading took counts from here.
        self.began_s = time.monotonic()
        #: The code was seen to be there before the node said so: its word is still to come, in front of any call.
        self.attached_due = False
        #: What the contract's half made ahead.
        self.begun = None
        self._pending = b""
        self._lock = threading.Lock()
        os.set_inheritable(fd, False)
        after_fork.append(self._forget)

    @property
    def holds_bytes(self):
        """Whether something was read that `recv` has not yet returned: its descriptor alone does not tell."""
        return bool(self._pending)

    def recv(self):
        """(kind, flags, invocation, payload) of the next frame. Raises Gone at the end, BrokenFrame."""
        data = self._pending
        while len(data) < frames.HEADER_BYTES:
            data += self._read()
        kind, flags, length, invocation = frames.unpack_header(data)
        end = frames.HEADER_BYTES + length
        if len(data) >= end:
            self._pending = data[end:]
            return kind, flags, invocation, data[frames.HEADER_BYTES : end]
        self._pending = b""
        return kind, flags, invocation, self._rest(data, length)

    def recv_alone(self):
        """As `recv`, and not a byte more is read: what follows may be another's to read."""
        head = b""
        while len(head) < frames.HEADER_BYTES:
            head += self._read(frames.HEADER_BYTES - len(head))
        kind, flags, length, invocation = frames.unpack_header(head)
        return kind, flags, invocation, self._rest(head, length)

    def _read(self, size=READ_BYTES):
        try:
            data = os.read(self.fd, size)
        except ConnectionError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data

    def _rest(self, data, length):
        """A payload longer than one read, into one buffer."""
        payload = bytearray(length)
        have = len(data) - frames.HEADER_BYTES
        payload[:have] = data[frames.HEADER_BYTES :]
        with memoryview(payload) as view:
            while have < length:
                count = os.readv(self.fd, [view[have:]])
                if not count:
                    raise Gone
                have += count
        return payload

    def send(self, kind, invocation=0, payload=b"", flags=0):
        """Send one frame."""
        head = frames.HEADER.pack(frames.VERSION, kind, flags, len(payload), invocation)
        self.send_parts(head, payload)

    def send_meta(self, kind, invocation, meta, body=b"", flags=0):  # noqa: PLR0917
        """Send one frame with a meta object (JSON bytes or plain data) and a body."""
        if not isinstance(meta, bytes):
            meta = json.dumps(meta, separators=(",", ":")).encode()
        size = len(meta)
        head = frames.HEADER_META.pack(frames.VERSION, kind, flags, 4 + size + len(body), invocation, size)
        self.send_parts(head + meta, body)

    def send_parts(self, *parts):
        """Send bytes that are whole frames, in one system call where the socket takes them."""
        try:
            with self._lock:
                write_all(self.fd, *parts)
        except (BrokenPipeError, ConnectionError) as error:
            raise Gone from error

    def ready(self):
        """Say that the handler is loaded."""
        self.log.mark_loaded()
        self.send(frames.READY, 0, json.dumps({"init_ms": self.init_ms()}).encode())
        if self.attached_due:
            self.attached_due = False
            recv_attached(self)

    def init_ms(self):
        """How long loading has taken so far."""
        return round((time.monotonic() - self.began_s) * 1000, 3)

    def _forget(self):
        """In a child that user code forked: it must neither answer nor hold the wire open."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def write_all(fd, *parts):
    """Write every byte of `parts`, in order; waits where a descriptor does not (a guest with a loop made it so)."""
    left = sum(map(len, parts))
    try:
        written = os.writev(fd, parts)
    except BlockingIOError:
        written = 0
    if written == left:
        return
    data = memoryview(b"".join(parts))
    while written < left:
        try:
            written += os.write(fd, data[written:])
        except BlockingIOError:
            _await_room(fd)


def _await_room(fd):
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def run(wire_fd, adapt=None, *, ahead=False, told=None):
    """Serve the node on `wire_fd` until it says STOP or goes away. Never returns: the process ends here.

    `adapt(settings)` may change what INIT said before it is done. `ahead`: nobody waits for it yet. `told`: what INIT would
    say, and "began_s"; none comes then.
    """
    status = 1
    try:
        if ahead:
            importlib.import_module("ondol_guest.rehearsal").rehearse()
        wire = Wire(wire_fd, Log())
        put_on(wire.log)
        settings = await_init(wire) if told is None else told
        wire.began_s = settings.pop("began_s", wire.began_s)
        if adapt is not None:
            adapt(settings)
        if "exec" in settings:
            importlib.import_module("ondol_guest.executing").execute(settings["exec"], wire)
        dress(settings)
        begin(settings, wire)
        if settings.get("waits"):
            await_attached(wire, settings["cwd"])
        move_in(settings)
        status = serve(wire, settings) or 0
    except Gone:
        os._exit(0)
    except SystemExit as error:
        status = _exit_status(error)
    except KeyboardInterrupt:
        _die_of_interrupt()
    except BaseException:  # what an interpreter does with an exception nobody caught
        sys.excepthook(*sys.exc_info())
    leave(status)


def await_init(wire):
    """The settings that the node sends first."""
    kind, _, _, payload = wire.recv_alone()
    if kind != frames.INIT:
        raise frames.BrokenFrame("the first frame is of kind %d, expected INIT" % kind)
    wire.began_s = time.monotonic()
    return json.loads(payload)


def await_attached(wire, place):
    """Wait for the code. Loading counts from then.

    The kernel tells whoever has its list of mounts open that it changed: so this process is woken by the mount itself, and not
    by the keeper's answer to the front and the front's word to us. That word counts where the mount cannot be seen.
    """
    try:
        mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        mounts = -1
    try:
        wire.attached_due = mounts >= 0 and _sees_mounted(place, mounts, wire.fd)
    finally:
        if mounts >= 0:
            os.close(mounts)
    if not wire.attached_due:
        recv_attached(wire)
    wire.began_s = time.monotonic()


def _sees_mounted(place, mounts, wire_fd):
    """True when `place` is a mount; False when something comes by the wire first."""
    import select

    poll = select.poll()
    poll.register(mounts, select.POLLPRI)
    poll.register(wire_fd, select.POLLIN)
    above = os.path.dirname(place)
    while os.stat(place).st_dev == os.stat(above).st_dev:
        if any(fd == wire_fd for fd, _ in poll.poll()):
            return False
    return True


def recv_attached(wire):
    """The node's word that the code is there."""
    kind, _, _, _ = wire.recv_alone()
    if kind != frames.ATTACHED:
        raise frames.BrokenFrame("a frame of kind %d, expected ATTACHED" % kind)


def put_on(log):
    """What every function finds, whatever it is: done before anybody waits."""
    sys.stdout = sys.__stdout__ = Out(1, "surrogateescape", log)
    sys.stderr = sys.__stderr__ = Out(2, "backslashreplace", log)
    _add_site_builtins()
    os.environ["TZ"] = USUAL_ZONE
    time.tzset()


def dress(settings):
    """Make this process what `settings` say it is, as far as no file of the function's has a part in it."""
    os.environ.clear()
    os.environ.update(settings["variables"])
    sys.argv[:] = ["/var/runtime/bootstrap", settings["handler"]]
    if not _names_file(settings) and settings["variables"].get("TZ") != USUAL_ZONE:
        time.tzset()


def _names_file(settings):
    """Whether the time zone is a file, which may be the function's."""
    return settings["variables"].get("TZ", "").lstrip(":").startswith("/")


def move_in(settings):
    """The rest of it: where it is, and what its modules are."""
    if _names_file(settings):
        time.tzset()
    os.chdir(settings["cwd"])
    sys.path[:] = settings["path"] + _library_path() + settings.get("path_last", [])
    sys.path_importer_cache.clear()
    for directory in settings["path"]:
        forget_shadowed(directory)


def forget_shadowed(directory):
    """Let the function's own modules win over imports that were made ahead of time.

    A function may call its module random.py. Where nothing is imported ahead it gets its own, so it must here.
    """
    try:
        own = {entry.name.split(".")[0] for entry in os.scandir(directory)}
    except OSError:
        return
    # Asked one by one: going through sys.modules would touch, and so copy, a page for nearly every name in it.
    for name in {name for name in own if name in sys.modules} - ALWAYS_LOADED - {"ondol_guest"}:
        for loaded in list(sys.modules):
            if loaded == name or loaded.startswith(name + "."):
                del sys.modules[loaded]


def _add_site_builtins():
    """`exit`, `quit`, `help` …: a zygote runs without `site`, user code expects what it adds."""
    import site

    site.setquit()
    site.setcopyright()
    site.sethelper()


def begin(settings, wire):
    """What the contract's half of the guest can do without the function's files, where it was imported ahead."""
    half = sys.modules.get("ondol_guest." + settings["guest"])
    if hasattr(half, "begin"):
        half.begin(wire)


def serve(wire, settings):
    """Hand over to the contract's half of the guest; its exit status, or None."""
    return importlib.import_module("ondol_guest." + settings["guest"]).serve(wire, settings)


def _library_path():
    """Where the running interpreter's own library is: its directories, not what a zygote or a site added."""
    home = os.path.dirname(os.__file__)
    place = os.path.join(os.path.dirname(home), "python%d%d.zip" % sys.version_info[:2])
    path = [place, home, os.path.join(home, "lib-dynload")]
    dynload = [p for p in sys.path if p.endswith("lib-dynload")]
    return path[:2] + (dynload[:1] or path[2:])


def _exit_status(error):
    """What the process's exit status is for a SystemExit, as the interpreter has it."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _die_of_interrupt():
    import signal

    sys.excepthook(*sys.exc_info())
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def leave(status):
    """End as an interpreter does: wait for threads, run what was registered for the exit, flush."""
    import atexit

    try:
        threading._shutdown()  # noqa: SLF001  # there is no public way to end like an interpreter
        atexit._run_exitfuncs()  # noqa: SLF001
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        status = status or 1
    os._exit(status)
