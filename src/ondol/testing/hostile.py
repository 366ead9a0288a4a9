"""A hostile function and the neighbour that must not notice it, for tests that try to break out of a whole node.

`SOURCE` is a function that runs whatever Python text its event holds, with a few helpers at hand; what the text leaves in `out`
is the answer. A `Neighbour` calls another function of the same node without pause and remembers every answer that was not
right, and how long each took.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

#: The attacker's program. `tried(action, …)` says "done", or the name of the error that stopped it.
SOURCE: Final = '''
import ctypes, errno, json, os, platform, resource, signal, socket, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
WIRE = max(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)
           and os.readlink("/proc/self/fd/" + fd).startswith("socket:"))

#: Numbers of system calls without a name in libc: on x86-64, on others.
NR = {name: numbers[platform.machine() != "x86_64"] for name, numbers in {
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "clock_settime": (227, 112), "clone": (56, 220),
    "clone3": (435, 435), "delete_module": (176, 106), "fanotify_init": (300, 262), "finit_module": (313, 273),
    "fsopen": (430, 430), "init_module": (175, 105), "io_uring_setup": (425, 425), "kcmp": (312, 272),
    "kexec_load": (246, 104), "keyctl": (250, 219), "landlock_create_ruleset": (444, 444), "lookup_dcookie": (212, 18),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pivot_root": (155, 41), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "quotactl": (179, 60), "reboot": (169, 142), "request_key": (249, 218), "setns": (308, 268), "swapon": (167, 224),
    "userfaultfd": (323, 282),
}.items()}

def tried(action, *arguments):
    """ "done", or the name of what stopped it."""
    try:
        action(*arguments)
        return "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")
    except ValueError:
        return "ValueError"

def call(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def syscall(name, *arguments):
    return call("syscall", NR[name], *arguments)

def in_child(action, *arguments):
    """What became of it in a process of its own: as `tried`, or the signal that ended it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, tried(action, *arguments).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    said = os.read(reader, 99).decode()
    os.close(reader)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said

def write(path, text="1"):
    fd = os.open(path, os.O_WRONLY | (0 if path.startswith("/proc") else os.O_CREAT))
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)

def handler(event, context):
    names = {**globals(), "out": None, "context": context, **event.get("with", {})}
    exec(event["code"], names)
    return names["out"]
'''

#: The neighbour's program: what it is asked comes back, with a file of its own and nobody else's.
NEIGHBOUR: Final = """
import os
def handler(event, context):
    with open("/tmp/own", "w") as file:
        file.write(event["word"])
    with open("/tmp/own") as file:
        return {"word": file.read(), "files": sorted(os.listdir("/tmp"))}
"""


class Failed(Exception):  # noqa: N818  # what happened
    """The function failed; the payload says how."""


#: Between two calls of the neighbour's.
PAUSE_S: Final = 0.02


@dataclass
class Neighbour:
    """Calls `function` through `client` until `stop`: whoever is attacked next door must go on serving."""

    client: Any
    function: str
    #: What was not answered as it must be.
    wrong: list[str] = field(default_factory=list)
    #: Seconds of each call.
    took_s: list[float] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Neighbour:
        self._thread = threading.Thread(target=self._run, name="neighbour")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Returns when its last call has ended; the client's own time-out bounds that."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def figures(self) -> dict[str, float]:
        """How many calls, and their median, 99th percentile and longest in milliseconds."""
        took = sorted(self.took_s)
        if not took:
            return {"calls": 0}
        at = {"p50_ms": statistics.median(took), "p99_ms": took[int(len(took) * 0.99)], "max_ms": took[-1]}
        return {"calls": len(took), **{name: round(value * 1000, 1) for name, value in at.items()}}

    def _run(self) -> None:
        while not self._over.is_set():
            self._call(f"word-{len(self.took_s)}")
            self._over.wait(PAUSE_S)

    def _call(self, word: str) -> None:
        begun_s = time.monotonic()
        try:
            response = self.client.invoke(FunctionName=self.function, Payload=json.dumps({"word": word}))
            answer = json.loads(response["Payload"].read())
        except Exception as error:  # every way in which a client fails is the attacker's success
            self.wrong.append(f"{word}: {type(error).__name__}: {error}")
        else:
            if answer != {"word": word, "files": ["own"]}:
                self.wrong.append(f"{word}: {answer}")
        self.took_s.append(time.monotonic() - begun_s)
