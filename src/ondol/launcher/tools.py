"""The levels that a launcher can give, and how each one's guest is started.

A level is a `Tool`: the command that runs a guest in a shell, and what it claims to hold apart, as data: the contract suite
tries every claim, in both directions. No tool makes a network: each is started in the shell's own (`namespaces.py`), or in the
machine's, and leaves it as it is. Knows nothing of lines, shells' lives or the node.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ondol.keeper.view import GID, UID
from ondol.sandbox import NETWORK_EGRESS, NETWORK_HOST, NETWORK_NONE, Claims

#: What a guest may see of the environment before INIT replaces it.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108
PROGRAM = "/var/runtime/ondol_guest/launched.py"
SHM_MIB_MAX = 64


@dataclass(frozen=True)
class Place:
    """Where one shell is, as the launcher's children see it."""

    name: str
    directory: str  #: the launcher's own for this shell, on disk; holds `tmp` where /tmp is a directory
    root: str  #: the view that becomes the guest's root; "" for `process`
    bundle: str  #: for the tool's own files; the function's user may write in `state` below it
    uid: int  #: the user the tool runs as, as the launcher numbers users
    brought: str  #: what Ondol brings; for `process`

    @property
    def gid(self) -> int:
        """Accounts' groups have their users' numbers; who runs as the launcher's own user has its group."""
        return os.getegid() if self.uid == os.geteuid() else self.uid

    @property
    def state(self) -> str:
        return f"{self.bundle}/state"

    @property
    def tmp(self) -> str:
        return f"{self.directory}/tmp"  # noqa: S108

    @property
    def task(self) -> str:
        return f"{self.directory}/task"

    @property
    def opt(self) -> str:
        return f"{self.directory}/opt"


@dataclass(frozen=True)
class Tool:
    """One level."""

    level: str
    claims: Claims
    #: The program's path; "" for `process`, which needs none.
    program: str
    #: The command that starts a guest (an interpreter, and words for `launched.py`) under a name that the tool has not heard.
    #: Writes what the tool wants to read.
    command: Callable[[Tool, Place, Sequence[str], str], list[str]]
    #: What a function may be able to reach.
    networks: tuple[str, ...] = (NETWORK_NONE, NETWORK_EGRESS, NETWORK_HOST)
    #: What the tool needs beside the function, in its control group.
    overhead_bytes: int = 0
    #: More words for the program, found when it was tried (gVisor's platform).
    options: tuple[str, ...] = ()
    #: The tool's first process is the guest's init, and ends with 128 and the signal's number where a guest died of a signal.
    needs_init: bool = True
    #: It holds /tmp open from the start: no disk of another size can take its place later.
    holds_tmp: bool = False
    #: It takes its root out of all propagation: what comes later has to be mounted in its own namespace.
    private_root: bool = False
    #: The node's own filter of system calls, and Landlock, stand around the guest as well.
    walled: bool = False
    #: The control group hierarchy is hidden from it.
    hides_cgroups: bool = False
    #: Of its processes, how many are above a guest, where a signal can be sent to that; 0 where none can.
    depth: int = 0
    #: Nothing but a control group bounds a function's memory: it is held by the tool, not by the function's processes.
    needs_memory_group: bool = False


def _process(tool: Tool, place: Place, guest: Sequence[str], name: str) -> list[str]:
    del tool, name
    interpreter, *rest = guest
    program = f"{place.brought}/ondol_guest/launched.py"
    more = ["--parent", str(os.getpid()), "--task", place.task, "--brought", place.brought]
    more += ["--opt", place.opt, "--tmp", place.tmp]
    return [interpreter, "-I", "-S", program, *rest, *more]


def _bwrap(tool: Tool, place: Place, guest: Sequence[str], name: str) -> list[str]:
    del name
    interpreter, *rest = guest
    return [
        *(
            tool.program,
            "--unshare-all",
            "--share-net",
            "--unshare-user",
            "--uid",
            str(UID),
            "--gid",
            str(GID),
            "--hostname",
            "localhost",
        ),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--dev-bind", place.root, "/", "--proc", "/proc"),
        *("--size", str(SHM_MIB_MAX << 20), "--perms", "1777", "--tmpfs", "/dev/shm", "--chdir", "/", "--"),  # noqa: S108
        *(interpreter, "-I", "-S", PROGRAM, *rest),
    ]


def _crun(tool: Tool, place: Place, guest: Sequence[str], name: str) -> list[str]:
    spec = _spec(place, guest)
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = [{"containerID": UID, "hostID": place.uid, "size": 1}]
    spec["linux"]["gidMappings"] = [{"containerID": GID, "hostID": place.gid, "size": 1}]
    _write(place, spec)
    return [tool.program, "--root", place.state, "--cgroup-manager=disabled", "run", "--bundle", place.bundle, name]


def _gvisor(tool: Tool, place: Place, guest: Sequence[str], name: str) -> list[str]:
    spec = _spec(place, guest)
    # Where nothing is said of /tmp, gVisor keeps it in memory and forgets it with the guest.
    bind = {"destination": "/tmp", "type": "bind", "source": f"{place.root}/tmp", "options": ["rbind"]}  # noqa: S108
    spec["mounts"].append(bind)
    # Without root outside there is but one user, and gVisor calls it 0. The guest gives it its name before it does anything.
    spec["process"]["user"] = {"uid": 0, "gid": 0}
    spec["process"]["args"] += ["--appear", f"{UID}:{GID}"]
    _write(place, spec)
    return [
        *(tool.program, f"-root={place.state}", "-rootless", "-network=host", "-ignore-cgroups", *tool.options),
        *("run", f"-bundle={place.bundle}", name),
    ]


def _spec(place: Place, guest: Sequence[str]) -> dict[str, Any]:
    """The container that OCI runtimes read."""
    interpreter, *rest = guest
    shm = ["nosuid", "nodev", "noexec", "mode=1777", f"size={SHM_MIB_MAX << 20}"]
    return {
        "ociVersion": "1.0.0",
        "hostname": "localhost",
        "process": {
            "terminal": False,
            "user": {"uid": UID, "gid": GID},
            "args": [interpreter, "-I", "-S", PROGRAM, *rest],
            "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {},
        },
        # Read-only already, all but /tmp; and the code is mounted into it later.
        "root": {"path": place.root, "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": shm},  # noqa: S108
        ],
        "linux": {
            "rootfsPropagation": "rslave",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/kcore",
                "/proc/keys",
                "/proc/sched_debug",
                "/proc/timer_list",
                "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _write(place: Place, spec: object) -> None:
    path = f"{place.bundle}/config.json"
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(spec, file)
    os.replace(f"{path}.new", path)  # another guest of this shell may be reading it


PROCESS = Tool(
    level="process",
    claims=Claims(files=False, processes=False, network=False, code_read_only=False, tmp=False, kernel=False, several=False),
    program="",
    command=_process,
    networks=(NETWORK_HOST,),
    depth=1,
)
_WALLED = Claims(files=True, processes=True, network=True, code_read_only=True, tmp=True, kernel=False, several=True)
BWRAP = Tool(
    level="bwrap",
    claims=_WALLED,
    program="bwrap",
    command=_bwrap,
    needs_init=False,
    walled=True,
    depth=2,
)
CRUN = Tool(
    level="crun",
    claims=_WALLED,
    program="crun",
    command=_crun,
    private_root=True,
    hides_cgroups=True,
    overhead_bytes=4 << 20,
    depth=2,
)
GVISOR = Tool(
    level="gvisor",
    claims=Claims(files=True, processes=True, network=True, code_read_only=True, tmp=True, kernel=True, several=False),
    program="runsc",
    command=_gvisor,
    overhead_bytes=32 << 20,
    holds_tmp=True,
    needs_memory_group=True,
)
TOOLS = {tool.level: tool for tool in (PROCESS, BWRAP, CRUN, GVISOR)}
