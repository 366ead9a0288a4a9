"""The golden view: the one read-only root that every shell and zygote gets a copy of.

A small tmpfs with `/usr` and the interpreters' prefixes bound at their real paths (an interpreter knows its own), a handful
of files of `/etc`, five devices, `/var/runtime`, and empty mount points. Built once, in the keeper's private mount namespace;
a copy is one `open_tree`. Knows nothing of accounts or shells. Invariant: nothing of the host's that is not named here is in
it.
"""

from __future__ import annotations

import glob
import os
import platform

from ondol import syscalls
from ondol.keeper import networks
from ondol.keeper.init_program import init_program

#: The function's user inside a shell, as the documented platforms have it.
UID, GID = 993, 990

_PASSWD = "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"  # noqa: S105
_GROUP = "root:x:0:\nsbx_user:x:990:\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
#: By the second and third name extensions know the environment that they are in.
_HOSTS = "127.0.0.1 localhost sandbox.localdomain sandbox\n::1 localhost\n"
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom")
#: Copied: small, and replaced on the host by rename, which a bind would not follow.
_COPIED = ("localtime", "ld.so.cache", "services", "protocols", "mime.types", "os-release", "timezone")
_BOUND = ("ssl/certs", "ssl/openssl.cnf", "ca-certificates", "pki/tls", "pki/ca-trust", "alternatives", "fonts")
#: Where Debian's Java has its configuration, by release; without it no TLS and no compiler start.
_BOUND_BY_PATTERN = "java-*-openjdk"
#: The two named lib are there for the linker: it never looks again for a directory that was not there once.
_EMPTY = (
    "proc", "tmp", "dev/shm", "var/task/lib", "var/runtime", "opt/lib", "home/sbx_user1051", "run", "var/tmp",
)  # fmt: skip
_COPY_BYTES_MAX = 1 << 20

#: The machine's own, for shells that share its network: see `shells.py`.
RESOLV_FILE = ".ondol/resolv.conf"
#: The init's program: executable and not readable, so that the kernel lets nobody of the same user look into it.
_INIT_FILE = ".ondol/init"


class View:
    """The golden tree, mounted at `at`."""

    def __init__(self, at: str, interpreters: list[str], runtime: dict[str, str]) -> None:
        self.at = at
        self.init_program = "/" + _INIT_FILE
        os.makedirs(at, mode=0o711, exist_ok=True)
        syscalls.mount("ondol-view", at, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=8m")
        self._skeleton()
        self._bind("/usr")
        for name in _TOP:
            self._top(name)
        for name in _BOUND:
            self._bind(f"/etc/{name}")
        for path in sorted(glob.glob(f"/etc/{_BOUND_BY_PATTERN}")):
            self._bind(path)
        for device in _DEVICES:
            self._bind(f"/dev/{device}")
        for prefix in sorted({prefix_of(path) for path in interpreters}):
            self._bind(prefix)
        for name, source in sorted(runtime.items()):
            self._bind(source, f"/var/runtime/{name}")
        self._init()
        whole = os.open(at, os.O_PATH | os.O_CLOEXEC)
        try:
            syscalls.mount_setattr(whole, syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID, recursive=True)
        finally:
            os.close(whole)

    def copy(self) -> int:
        """A detached copy of the tree, for one mount namespace."""
        return syscalls.open_tree(self.at, recursive=True)

    def _skeleton(self) -> None:
        for name in ("etc", "dev", *_EMPTY):
            self._directory(name)
        for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(target, f"{self.at}/dev/{name}")
        for name, text in (("passwd", _PASSWD), ("group", _GROUP), ("nsswitch.conf", _NSSWITCH), ("hosts", _HOSTS)):
            self._file(f"etc/{name}", text.encode())
        for name in _COPIED:
            try:
                with open(f"/etc/{name}", "rb") as source:
                    self._file(f"etc/{name}", source.read(_COPY_BYTES_MAX))
            except OSError:
                continue  # not on this machine
        self._resolvers()

    def _resolvers(self) -> None:
        """Names are asked for at the gateway. Where there is none, the kernel says at once that there is no way."""
        try:
            with open("/etc/resolv.conf", "rb") as source:
                machine = source.read(_COPY_BYTES_MAX)
        except OSError:
            machine = b""
        self._directory(".ondol")
        self._file(RESOLV_FILE, machine)
        rest = [line for line in machine.splitlines() if line.split()[:1] in ([b"search"], [b"domain"], [b"options"])]
        self._file("etc/resolv.conf", b"\n".join([f"nameserver {networks.GATEWAY_ADDRESS}".encode(), *rest, b""]))

    def _top(self, name: str) -> None:
        """/bin and its like: links on merged systems, directories elsewhere."""
        path = f"/{name}"
        if os.path.islink(path):
            os.symlink(os.readlink(path), self.at + path)
        elif os.path.isdir(path):
            self._bind(path)

    def _init(self) -> None:
        self._directory(".ondol")
        target = f"{self.at}/{_INIT_FILE}"
        with open(target, "xb") as file:
            file.write(init_program(platform.machine()))
        os.chmod(target, 0o111)  # noqa: S103

    def _bind(self, source: str, target: str | None = None) -> None:
        if not os.path.exists(source):
            return
        inside = (target or source).lstrip("/")
        seen = f"{self.at}/{inside}"
        if os.path.exists(seen) and os.path.samefile(source, seen):
            return  # below something bound already
        if os.path.isdir(source):
            self._directory(inside)
        else:
            self._directory(os.path.dirname(inside))
            self._file(inside, b"")
        syscalls.mount(source, seen, "", syscalls.MS_BIND | syscalls.MS_REC)

    def _directory(self, inside: str) -> None:
        os.makedirs(f"{self.at}/{inside}", mode=0o755, exist_ok=True)

    def _file(self, inside: str, content: bytes) -> None:
        with open(f"{self.at}/{inside}", "wb") as target:
            target.write(content)
        os.chmod(f"{self.at}/{inside}", 0o644)


def prefix_of(interpreter: str) -> str:
    """The directory tree an interpreter needs: the parent of its `bin`."""
    return os.path.dirname(os.path.dirname(os.path.realpath(interpreter)))
