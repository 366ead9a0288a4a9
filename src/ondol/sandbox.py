"""The sandbox port: shells, and the zygotes that fork into them.

A *shell* is namespaces + cgroup + /tmp, with an init of ours as PID 1; it is made ahead of need, holds nothing of any
account until attached, serves one revision, and is thrown away. Nothing that ran user code sets anything up: all is done to
it from outside, by the keeper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

#: What a shell can reach: nothing but its node, the world, or all that the machine can, its own services among it.
NETWORK_NONE: Final = "none"
NETWORK_EGRESS: Final = "egress"
NETWORK_HOST: Final = "host"
#: The listening socket by which what runs in a shell reaches its node: its name in `Shell.files`, and where it is inside.
NODE_SOCKET: Final = "node"
NODE_URL: Final = "http://127.0.0.1:9001"


def with_modules(interpreter: str, ahead: str) -> str:
    """How an interpreter is named that has imported a set of modules before anything is forked from it: "SET:/path"."""
    return f"{ahead}:{interpreter}" if ahead else interpreter


def without_modules(interpreter: str) -> tuple[str, str]:
    """Its absolute path, and the set of modules that it is to have imported, or ""."""
    if interpreter.startswith("/"):
        return interpreter, ""
    ahead, _, path = interpreter.partition(":")
    return path, ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a shell used."""

    memory_peak_bytes: int  #: 0 where no cgroup is to be had
    oom_kills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A shell that is ready to be attached. File descriptors belong to the holder: close with `Sandboxes.discard`."""

    id: str
    account: str
    #: Namespaces to enter, as open descriptors, by name: "mnt", "pid", "ipc", "uts", and "net" unless it shares the machine's.
    namespaces: dict[str, int]
    #: Files by which a process of one thread joins the shell's control groups: it writes "0". Empty where none is to be had.
    cgroups: tuple[int, ...]
    #: More open files, by name: "memory_peak" holds the bytes it used at most, where the kernel says so; "node" is a listening
    #: socket inside, by which what runs there reaches its node. Who takes one out of here closes it.
    files: dict[str, int] = field(default_factory=dict)
    network: str = NETWORK_NONE
    #: Its processes can be kept from running.
    freezes: bool = False
    #: A process may be forked into it, and talked to, before it is attached.
    early: bool = False
    #: What its control groups bound, of "memory", "pids" and "cpu". What they do not is bounded process by process.
    bounds: frozenset[str] = frozenset()


class Zygote(Protocol):
    """A pre-imported interpreter that forks environments into shells."""

    #: Resident bytes that every environment inherits.
    rss_bytes: int

    async def fork(self, shell: Shell) -> Child:
        """A process inside `shell` waiting for its INIT frame. Raises StartFailed."""
        ...

    async def fork_beside(self, shell: Shell) -> Child:
        """One more in a shell that has, or is to have, another. Raises StartFailed, also where a shell holds one only."""
        ...


class Child(Protocol):
    """A process that a zygote forked. `wire` and `log` are non-blocking descriptors the caller now owns."""

    pid: int
    wire: int
    log: int
    #: What was written to its wire while it waited.
    told: bytes

    async def wait(self) -> int:
        """How it ended: exit status >= 0, or minus the number of the signal."""
        ...

    def signal(self, number: int) -> None:
        """Have a signal sent to it alone, where there is somebody who can; soon, and never to another process."""
        ...


class Sandboxes(Protocol):
    """The node's way to its keeper. Raises StartFailed when the keeper cannot, OutOfSpace when the disk is full."""

    async def prepare(self, account: str, interpreter: str = "", network: str = NETWORK_NONE, told: bytes = b"") -> Shell:
        """A shell that nobody used. `interpreter`: what will run in it; one in which its child waits already is preferred,
        and has been `told` this ahead (frames for its wire; see `Child.told`). `network`: what it can reach. An interpreter is
        named by its absolute path, or as `with_modules` does it.
        """
        ...

    async def attach(self, shell: Shell, *, tree: str, memory_bytes: int, tmp_mib: int, opt_tree: str = "") -> None:
        """Show the code at /var/task (and another tree at /opt), read-only, and set the limits."""
        ...

    async def freeze(self, shell: Shell, *, on: bool) -> None:
        """Let no process in a shell that `freezes` run, or let them run again. Scouring and discarding thaw by themselves.

        What is sent to a frozen process waits for it. Idempotent; raises StartFailed.
        """
        ...

    async def scour(self, shell: Shell) -> None:
        """Kill every process in the shell but its init; /tmp stays."""
        ...

    async def discard(self, shell: Shell) -> None:
        """End the shell: processes, mounts, cgroup, /tmp. Idempotent; returns when nothing is left."""
        ...

    async def usage(self, shell: Shell) -> Usage: ...

    async def zygote(self, account: str, interpreter: str) -> Zygote:
        """The (running or new) zygote of this interpreter. Raises StartFailed."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What stands between a function and the rest at one level. Data, so that a suite can try each claim, both ways."""

    #: It sees nothing of the machine's files but the view.
    files: bool
    #: It sees and signals its own processes only.
    processes: bool
    #: It has a network of its own: its loopback is nobody else's.
    network: bool
    code_read_only: bool
    #: /tmp itself is its own. Otherwise TMPDIR names a directory that is.
    tmp: bool
    #: Its system calls are answered by another kernel than the machine's.
    kernel: bool
    #: A shell may hold several processes that were started apart: they share its network, its files and its limits.
    several: bool
