"""The keeper at work: the operations of docs/explain/architecture.md, on what `serving.py` serves.

Invariants: a shell and a zygote belong to the line that asked for them and end with it; nothing a front sends is believed: the
code to attach must lie below the code directory, names and sizes are checked.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Generator
from dataclasses import dataclass, field

from ondol.keeper import cleaning, disks, maker, networks, serving, shells, zygotes
from ondol.keeper.accounts import Account, Accounts
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.gateways import Gateways, NoGateway
from ondol.keeper.loop import Loop, Readable, Sleep
from ondol.keeper.protocol import Closed, Line, Message, close_all
from ondol.keeper.reserve import Reserve
from ondol.keeper.serving import MEMORY_BYTES_MIN, Operation, Refused, Waits, name_in, open_below
from ondol.keeper.shells import Shell
from ondol.keeper.spares import Spares
from ondol.keeper.view import View
from ondol.walls.built import Walls

PREPARE_S_MAX = 5.0
DISCARD_S_MAX = 5.0
ZYGOTE_S_MAX = 30.0
ZYGOTES_MAX = 256
#: A template is made, and kept, for each size.
TMP_MIB_MAX = 10_240


#: Between steps that take long: who waits for code, or for an end, is served in front of a shell that is for nobody yet.
OTHERS_FIRST = Sleep(0.0)


@dataclass
class Front(serving.Front[Shell]):
    """One line and what belongs to it."""

    zygotes: dict[int, zygotes.Zygote] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Directories and descriptors that the keeper works with."""

    shells: str
    code: str
    own_mnt: int
    reserve: Reserve


class Keeper(serving.Server[Shell, Front]):
    """See the module."""

    def __init__(
        self,
        loop: Loop,
        *,
        view: View,
        accounts: Accounts,
        cgroups: Cgroups,
        tmp: disks.Disks | None,
        places: Places,
        interpreters: frozenset[str],
        ways: Gateways,
        allowed: tuple[str, ...],
        walls: Walls,
    ) -> None:
        super().__init__(loop, "keeper", kept_free=places.reserve, ways=ways, log=log)
        self._view = view
        self._accounts = accounts
        self._cgroups = cgroups
        self._disks = tmp
        self._spares = Spares(loop, tmp, places.shells) if tmp is not None else None
        self._places = places
        self._interpreters = interpreters
        self._allowed = allowed
        self._walls = walls
        self._makers = maker.Makers(view, walls)
        self.operations = {
            "prepare": self._prepare,
            "attach": self._attach,
            "freeze": self._freeze,
            "scour": self._scour,
            "discard": self._discard,
            "usage": self._usage,
            "settled": self._settled,
            "zygote": self._zygote,
        }

    def _new_front(self, line: Line) -> Front:
        return Front(line)

    def _left(self, front: Front) -> None:
        for zygote in list(front.zygotes.values()):
            _kill(zygote.pidfd)

    # Operations --------------------------------------------------------------------------------------------------------
    def _prepare(self, front: Front, message: Message) -> Operation:
        shell_id, account = name_in(message, "shell"), name_in(message, "account")
        self._room_for(shell_id)
        network = message.get("network")
        if network not in self._allowed:
            raise Refused("invalid", f"network {network!r} is none of those that this node gives: {', '.join(self._allowed)}")
        shell = self._begin(shell_id, self._accounts.get(account), network)
        self._shells[shell_id] = front.shells[shell_id] = shell
        namespaces: dict[str, int] = {}
        cgroups: list[int] = []
        files: dict[str, int] = {}
        try:
            cgroups = yield from self._furnish(shell, int(message.get("memory_bytes", 0)))
            namespaces, files = yield from self._until_prepared(shell)
            files |= zip(("memory_peak",), self._cgroups.memory_peak(shell_id), strict=False)
            if network == networks.EGRESS:
                with socket.socket(fileno=files.pop("route")) as inside:
                    yield from self._ways.connect(account, shell_id, namespaces[networks.NAMESPACE], inside)
            if not front.open:  # it left while we were at it
                raise Refused("failed", "the front is gone")
        except (OSError, Refused, NoGateway) as error:
            close_all([*namespaces.values(), *cgroups, *files.values()])
            yield from self._discard_shell(front, shell)
            if isinstance(error, NoGateway):
                raise Refused("failed", str(error)) from error
            raise
        said = {
            "namespaces": list(namespaces),
            "cgroups": len(cgroups),
            "files": list(files),
            "freezes": self._cgroups.freezes,
            "bounds": sorted(self._cgroups.controllers),
        }
        return said, [*namespaces.values(), *cgroups, *files.values()]

    def _begin(self, shell_id: str, account: Account, network: str) -> Shell:
        directory = f"{self._places.shells}/{shell_id}"
        os.mkdir(directory, 0o711)
        try:
            return self._makers.begin(shell_id, account, directory, network)
        except OSError:
            cleaning.remove_own(directory)
            raise

    def _furnish(self, shell: Shell, memory_bytes: int) -> Generator[Sleep | Readable, bool, list[int]]:
        """Its /tmp and control groups, while its PID 1 makes a network; the files that the groups are joined by."""
        yield OTHERS_FIRST
        self._still_wanted(shell)
        tmp = self._first_tmp(shell)
        cgroups: list[int] = []
        try:
            yield OTHERS_FIRST
            self._still_wanted(shell)
            cgroups = self._cgroups.make(shell.id)
            if memory_bytes >= MEMORY_BYTES_MIN:
                self._limit(shell, memory_bytes)
            maker.furnish(shell, tmp, cgroups)
        except OSError:
            close_all(cgroups)
            raise
        finally:
            os.close(tmp)
        return cgroups

    def _still_wanted(self, shell: Shell) -> None:
        """Raises Refused where it was discarded meanwhile: nothing is made for it that nobody would remove."""
        if shell.ending:
            raise Refused("failed", f"shell {shell.id} was discarded while it was made")

    def _first_tmp(self, shell: Shell) -> int:
        """A /tmp of the usual size as a detached mount."""
        if self._spares is None or shell.network == networks.HOST:
            return self._tmp(shell.directory, shell.account, disks.TMP_MIB_DEFAULT)
        image = f"{shell.directory}/tmp-{disks.TMP_MIB_DEFAULT}.img"  # noqa: S108
        tmp, shell.disk = self._spares.take(image, shell.account.uid, shell.account.gid)
        return tmp

    def _tmp(self, directory: str, account: Account, mib: int) -> int:
        """A /tmp as a detached mount."""
        if self._disks is None:
            return shells.tmp_directory(directory, account)
        return self._disks.make(f"{directory}/tmp-{mib}.img", mib, account.uid, account.gid)  # noqa: S108

    def _until_prepared(self, shell: Shell) -> Generator[Sleep | Readable, bool, tuple[dict[str, int], dict[str, int]]]:
        """The descriptors of namespaces and of sockets inside, by name, once the init runs."""
        came: list[int] = []
        control = Line(shell.control)
        while True:
            if not (yield Readable(control.fileno(), PREPARE_S_MAX)):
                close_all(came)
                raise Refused("failed", "the shell did not come up in time")
            try:
                received = control.receive()
            except Closed:
                break
            if received is None:
                continue
            message, fds = received
            came += fds
            if "pid" in message:
                try:
                    shell.pidfd = os.pidfd_open(message["pid"])
                except ProcessLookupError:
                    continue  # reaped already; the end of the line comes next
                shell.pid = message["pid"]
                self._by_pid[shell.pid] = lambda _: self._shell_ended(shell)
                if shell.ending:
                    shell.kill()
            if "error" in message:
                close_all(came)
                raise Refused("failed", f"no shell could be made: {message['error']}")
        names, sockets = shells.names_of(shell.network), networks.sockets_of(shell.network)
        if len(came) != len(names) + len(sockets) or not shell.pid or shell.ending:
            close_all(came)
            raise Refused("failed", "the shell's first process died")
        namespaces = dict(zip(names, came, strict=False))
        shell.mnt = os.dup(namespaces["mnt"])
        shell.pid_namespace = os.dup(namespaces["pid"])
        return namespaces, dict(zip(sockets, came[len(names) :], strict=True))

    def _limit(self, shell: Shell, memory_bytes: int) -> None:
        self._cgroups.limit(shell.id, memory_bytes)
        shell.memory_bytes = memory_bytes

    def _attach(self, front: Front, message: Message) -> Operation:
        shell = self._shell(front, message)
        memory, tmp_mib = int(message["memory_bytes"]), int(message["tmp_mib"])
        if shell.attached or shell.gone:
            raise Refused("invalid", f"shell {shell.id} is {'gone' if shell.gone else 'attached already'}")
        self._reserve.check()
        if shell.disk is not None and not shell.disk.settled:
            shell.let_go_of_disk()
        if memory < MEMORY_BYTES_MIN or not 1 <= tmp_mib <= TMP_MIB_MAX:
            bounds = f"memory_bytes is at least {MEMORY_BYTES_MIN}, tmp_mib 1 to {TMP_MIB_MAX}"
            raise Refused("invalid", f"{bounds}: these are {memory} and {tmp_mib}")
        if memory != shell.memory_bytes:
            self._limit(shell, memory)
        if "opt_tree" in message:
            self._show(shell, str(message["opt_tree"]), "/opt")
        if self._disks is None:
            shell.tmp_bytes_max = tmp_mib << 20
        elif tmp_mib != disks.TMP_MIB_DEFAULT:
            self._another_tmp(shell, tmp_mib)
        self._show(shell, str(message["tree"]), "/var/task")  # last of all: a guest that sees it begins
        shell.attached = True
        return {"another_tmp": self._disks is not None and tmp_mib != disks.TMP_MIB_DEFAULT}, []
        yield  # a generator with nothing to wait for

    def _show(self, shell: Shell, path: str, target: str) -> None:
        code = os.open(self._places.code, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        tree = open_below(code, self._places.code, path)
        try:
            shells.show_code(shell, tree, target, self._places.own_mnt)
        finally:
            os.close(tree)

    def _another_tmp(self, shell: Shell, mib: int) -> None:
        """A disk of another size over the one that every shell is prepared with."""
        mounted = self._tmp(shell.directory, shell.account, mib)
        try:
            shells.put(shell, mounted, "/tmp", self._places.own_mnt)  # noqa: S108
        finally:
            os.close(mounted)

    def _scour_shell(self, shell: Shell) -> Waits:
        self._thaw(shell)
        if shell.gone or shell.ending:
            return
        self._cgroups.hurry(shell.id)
        status = yield from self._status_of(shells.begin_scour(shell))
        if shell.memory_bytes:
            self._cgroups.weigh(shell.id, shell.memory_bytes)
        if status != 0 and not shell.gone:
            raise Refused("failed", f"shell {shell.id} could not be scoured")

    def _freeze(self, front: Front, message: Message) -> Operation:
        shell, on = self._shell(front, message), bool(message["on"])
        if shell.frozen != on:
            self._cgroups.freeze(shell.id, on=on)
            shell.frozen = on
        return {}, []
        yield  # a generator with nothing to wait for

    def _thaw(self, shell: Shell) -> None:
        """Before anything is ended: a frozen process dies all the same, but what it holds should not depend on that."""
        if shell.frozen:
            shell.frozen = False
            try:
                self._cgroups.freeze(shell.id, on=False)
            except OSError as error:
                log(f"shell {shell.id} could not be thawed: {error}")

    def _end_shell(self, front: Front, shell: Shell) -> Waits:
        self._thaw(shell)
        self._cgroups.hurry(shell.id)
        if shell.disk is not None and not shell.disk.untouched:
            shell.let_go_of_disk()  # now: who lets go of it last writes what it holds to the image
        shell.let_go_of_namespaces()
        shell.kill()
        removed = False
        waited = 0.0
        while waited < DISCARD_S_MAX:
            if (shell.gone or not shell.pid) and self._cgroups.remove(shell.id):
                if self._spares is not None and shell.disk is not None:
                    self._spares.give_back(shell.disk)
                    shell.disk = None
                removed = yield from self._remove_directory(shell)
                break
            yield Sleep(0.001)
            waited += 0.001
        shell.close()
        self._ways.release(shell.account.name, shell.id)
        self._shells.pop(shell.id, None)
        front.shells.pop(shell.id, None)
        if not removed:
            raise Refused("failed", f"shell {shell.id} could not be removed whole")

    def _remove_directory(self, shell: Shell) -> Generator[Sleep | Readable, bool, bool]:
        if cleaning.remove_own(shell.directory):
            return True
        pid = cleaning.start_removing(shell.directory)
        yield from self._status_of(pid)  # as long as the disk needs
        return not os.path.exists(shell.directory)

    def _usage(self, front: Front, message: Message) -> Operation:
        peak, kills = self._cgroups.usage(self._shell(front, message).id)
        return {"memory_peak_bytes": peak, "oom_kills": kills}, []
        yield  # a generator with nothing to wait for

    def _zygote(self, front: Front, message: Message) -> Operation:
        interpreter = str(message["interpreter"])
        if interpreter not in self._interpreters:
            raise Refused("failed", f"{interpreter} is not one of the interpreters this node started with")
        if sum(len(f.zygotes) for f in self._fronts) >= ZYGOTES_MAX:
            raise Refused("failed", f"more than {ZYGOTES_MAX} zygotes on one node")
        ahead = name_in(message, "ahead") if message.get("ahead") else ""
        zygote = zygotes.begin(self._accounts.get(name_in(message, "account")), self._view, interpreter, self._walls, ahead)
        front.zygotes[zygote.pid] = zygote
        self._by_pid[zygote.pid] = lambda _: self._zygote_ended(front, zygote)
        line = Line(zygote.socket)
        try:
            came = yield Readable(line.fileno(), ZYGOTE_S_MAX)
            received = line.receive() if came else None
            if received is None:
                raise Refused("failed", f"the zygote of {interpreter} did not come up in time")
        except (Closed, Refused) as error:
            _kill(zygote.pidfd)
            line.close()
            raise Refused("failed", f"the zygote of {interpreter} did not start: {error}") from error
        ready, fds = received
        close_all(fds)
        if not front.open:
            _kill(zygote.pidfd)
        return {"rss_bytes": zygotes.rss_bytes(zygote), "version": str(ready["version"])}, [zygote.socket.detach()]

    # What happens by itself --------------------------------------------------------------------------------------------
    def _shell_ended(self, shell: Shell) -> None:
        shell.gone = True
        if not shell.ending:
            self._tell_owner(shell.id, {"gone": shell.id})

    def _zygote_ended(self, front: Front, zygote: zygotes.Zygote) -> None:
        os.close(zygote.pidfd)
        zygote.pidfd = -1
        front.zygotes.pop(zygote.pid, None)

    def _is_walked(self, shell: Shell) -> bool:
        return super()._is_walked(shell) and not shell.gone

    def _not_scoured(self, shell: Shell, error: Refused) -> None:
        del error
        shell.kill()


def _kill(pidfd: int) -> None:
    if pidfd >= 0:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return


def log(text: str) -> None:
    print(f"keeper: {text}", file=sys.stderr, flush=True)  # noqa: T201
