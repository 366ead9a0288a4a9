"""The keeper's line from a front that was taken over: any message is answered or ends that line, and nothing of it is believed.

The operations run against a keeper without rights: what would make a namespace or a mount is replaced by something that says so.
Every path that reaches it is checked to lie where it must.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from fuzzing.drawing import Draw
from ondol.keeper import shells, zygotes
from ondol.keeper.loop import Loop
from ondol.keeper.reserve import Reserve
from ondol.keeper.server import Keeper, Places

SEEDS = [
    json.dumps(message).encode()
    for message in (
        {"n": 1, "op": "prepare", "account": "a1", "shell": "s1", "network": "none"},
        {"n": 2, "op": "attach", "shell": "s1", "tree": "CODE/x/tree", "memory_bytes": 1 << 27, "tmp_mib": 512},
        {"n": 3, "op": "scour", "shell": "s1"},
        {"n": 4, "op": "discard", "shell": "s1"},
        {"n": 5, "op": "usage", "shell": "s1"},
        {"n": 6, "op": "zygote", "account": "a1", "interpreter": "/usr/bin/python3"},
        {"n": 7, "op": "freeze", "shell": "s1", "on": True},
    )
] + [b"\xff" + bytes(range(n, n + 60)) for n in range(0, 180, 12)]
TOKENS = [
    b'"s1"', b'"shell"', b'"tree"', b'"CODE/"', b"../", b"/", b"\\u0000", b"\\ud800", b"null", b"true", b"[]", b"{}", b"-1", b"1e999",
    b"NaN", b"Infinity", b"9" * 5000, b"[" * 9000, b'"op"', b'"attach"', b'"prepare"', b'"discard"', b'"n"', b"\n", b"0", b".",
]  # fmt: skip


class Refusing:
    """Stands for whatever needs rights: any of its methods says that there are none."""

    def __getattr__(self, name):
        def refuse(*_, **__):
            raise OSError(f"no rights for {name}")

        return refuse


class Groups:
    """Control groups that there are none of."""

    controllers = frozenset()

    def make(self, shell):
        return []

    def __getattr__(self, name):
        assert not name.startswith("__")
        return lambda *_, **__: [] if name in ("memory_peak", "make") else (0, 0) if name == "usage" else True


class Accounts:
    """One that everybody has."""

    def get(self, name):
        return SimpleNamespace(name=name, userns=-1, uid=os.getuid(), gid=os.getgid())


class Fixture:
    """One keeper with one shell, and both ends of a front's line."""

    def __init__(self):
        self.top = Path(tempfile.mkdtemp(prefix="ondol-fuzz-"))
        for name in ("shells", "code/x/tree"):
            (self.top / name).mkdir(parents=True)
        (self.top / "code" / "link").symlink_to("/")
        self.loop = Loop()
        kept = Reserve(self.loop, str(self.top), 0)
        places = Places(shells=str(self.top / "shells"), code=str(self.top / "code"), own_mnt=-1, reserve=kept)
        self.keeper = Keeper(
            self.loop, view=Refusing(), accounts=Accounts(), cgroups=Groups(), tmp=None, places=places,
            interpreters=frozenset(["/usr/bin/python3"]), walls=None, ways=mock.Mock(), allowed=("none",),
        )  # fmt: skip
        self.failures = []
        self.shown = []

    def close(self):
        self.loop.close()
        shutil.rmtree(self.top)

    def shell(self):
        ends = [end for _ in range(2) for end in socket.socketpair()]
        made = shells.Shell("s1", Accounts().get("a1"), str(self.top / "shells" / "s1"), ends[0], ends[2], network="none")
        ends[1].close()
        ends[3].close()
        return made

    def show(self, shell, tree, *_):
        self.shown.append(os.readlink(f"/proc/self/fd/{tree}"))

    def send(self, data):
        """One datagram from the front; the answers."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.keeper.serve_front(theirs)
        front = self.keeper._fronts[-1]
        shell = self.shell()
        front.shells["s1"] = self.keeper._shells["s1"] = shell
        fd = os.open("/dev/null", os.O_RDONLY)
        socket.send_fds(ours, [data], [fd])
        os.close(fd)
        try:
            with mock.patch.multiple(shells, show_code=self.show, begin_scour=Refusing().begin_scour):
                with mock.patch.object(zygotes, "begin", Refusing().begin):
                    self._turn(front)
            answers = self._answers(ours)
        finally:
            ours.close()
            self.keeper._end(front)
            self._turn(None)
            if shell.control.fileno() >= 0:
                shell.close()
            self.keeper._shells.clear()
        return answers

    def _turn(self, front):
        """As the loop does, but an exception is a find."""
        if front is not None:
            self.keeper._from_front(front)
        for _ in range(50):
            if not self.loop._timers:
                break
            timers, self.loop._timers = self.loop._timers, []
            for _, _, callback in timers:
                if callback != self.keeper._watch_quotas:
                    callback()

    def _answers(self, ours):
        found = []
        try:
            while data := ours.recv(1 << 17):
                found.append(json.loads(data))
        except (BlockingIOError, ConnectionError):
            pass
        return found


FIXTURE = Fixture()
atexit.register(FIXTURE.close)


#: What a message may be made of, besides bytes.
_KEYS = ("shell", "account", "tree", "opt_tree", "memory_bytes", "tmp_mib", "interpreter", "network", "on", "n", "x")
_VALUES = (
    *(
        "s1",
        "a1",
        "s2",
        "none",
        "host",
        "/usr/bin/python3",
        "CODE/x/tree",
        "CODE/link",
        "CODE/link/etc",
        "CODE/../..",
        "CODE",
        "/etc",
        ".",
        "",
    ),
    *(
        "CODE/x/tree/../../link",
        "a" * 65,
        "a/b",
        "-a",
        "\0",
        "\ud800",
        "온",
        0,
        1,
        -1,
        512,
        10_240,
        10_241,
        1 << 27,
        1 << 70,
        1.5,
        True,
        False,
    ),
    *(None, [], {}, ["s1"], {"s1": 1}, float("inf"), float("nan"), "9" * 5000, "134217728", " 512 "),
)
_OPERATIONS = ("prepare", "attach", "freeze", "scour", "discard", "usage", "zygote", "fork", "", None, 1)


def message(draw):
    """One that is well formed, with anything in its places."""
    made = {"n": draw.randint(0, 9), "op": draw.choice(_OPERATIONS)}
    made |= (
        {"shell": "s1", "memory_bytes": 1 << 27, "tmp_mib": 512, "tree": "CODE/x/tree", "account": "a1"}
        if draw.randint(0, 1)
        else {}
    )
    for _ in range(draw.randint(0, 5)):
        made[draw.choice(_KEYS)] = draw.choice(_VALUES)
    return json.dumps(made).encode()


def one(data):
    """The bytes as one datagram, or what a message is made by; CODE stands for the code directory. No descriptor may stay open."""
    if data[:1] == b"\xff":
        data = message(Draw(data[1:]))
    before = len(os.listdir("/proc/self/fd"))
    FIXTURE.shown.clear()
    data = data.replace(b"CODE", str(FIXTURE.top / "code").encode())[:60_000] or b"{}"
    with mock.patch.object(sys, "stderr", mock.Mock()), mock.patch("traceback.print_exc", _found):
        answers = FIXTURE.send(data)
    assert len(answers) <= 1
    assert all(set(answer) <= {"n", "ok", "error", "message"} for answer in answers), answers
    try:
        readable = isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        readable = False
    assert len(answers) == readable, (data[:200], answers)
    top = str(FIXTURE.top / "code")
    assert all(path.startswith(top + "/") for path in FIXTURE.shown), FIXTURE.shown
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


def _found(*_, **__):
    raise AssertionError(f"an operation failed in a way that nobody is told of: {sys.exc_info()[1]!r}") from sys.exc_info()[1]
