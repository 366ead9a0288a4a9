"""Sandboxes made by a launcher, for the levels whose guests start by exec: `process`, `bwrap`, `crun`, `gvisor`.

The asyncio end of its line; knows the line's protocol (`launcher/server.py`) and nothing of functions. One object gives one
level; several share a line. What a zygote is for kept sandboxes is a started interpreter here: the stock's shells each have a
guest that waits for INIT in them, since starting one is what costs most.

Invariants: a descriptor is in one hand, and closed once; every wait is bounded; what belonged to a line that ended is treated
as gone, because the launcher ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections import defaultdict, deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from ondol.model.errors import StartFailed, Unavailable
from ondol.sandbox import NETWORK_HOST, NETWORK_NONE, Shell, Usage, without_modules
from ondol.sandboxes.kept import KeptChild
from ondol.sandboxes.line import Line, Message, close_all

#: Of the pieces that `launcher/server.py` bounds, and then some.
LAUNCH_S_MAX = 40.0
ATTACH_S_MAX = 5.0
SCOUR_S_MAX = 10.0
DISCARD_S_MAX = 30.0
USAGE_S_MAX = 5.0
#: A waiting guest is a whole interpreter, not a fork: however large the stock may be, no more wait per kind.
STOCK_SHELLS_MAX = 2
REFILL_AFTER_S = 0.05
#: Ends of guests whose start was not yet looked at; those that nobody waited for stay.
EARLY_MAX = 256
STOCK_PAUSE_S = 2.0

_log = logging.getLogger("ondol.sandboxes")
_Result = TypeVar("_Result")
#: Level, account, interpreter and network.
_Kind = tuple[str, str, str, str]


class Launcher:
    """The line to one launcher, and the stock of every level it gives. Make it where an event loop runs."""

    def __init__(self, line: socket.socket, *, stock_shells: int = 1) -> None:
        self._stock_shells = min(stock_shells, STOCK_SHELLS_MAX)
        self._stock: dict[_Kind, deque[Shell]] = defaultdict(deque)
        self._filling: dict[_Kind, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Shells that the present launcher knows, the guests in them by shell and number, and those that nobody has taken yet.
        self._held: set[str] = set()
        self._children: dict[tuple[str, int], KeptChild] = {}
        self._waiting: dict[str, KeptChild] = {}
        #: The descriptors of shells' `files`, until they are discarded.
        self._open: dict[str, dict[str, int]] = {}
        #: Ends that were told before the start they belong to was answered.
        self._early: dict[tuple[str, int], int] = {}
        self._closed = False
        self._line = Line(line, "the launcher", self._news, self._line_ended)

    def level(self, name: str) -> LaunchedSandboxes:
        """The sandboxes of one level."""
        return LaunchedSandboxes(self, name)

    def use(self, line: socket.socket) -> None:
        """A new line, after the launcher was started again; whatever came by the old one is gone."""
        kinds = list(self._stock)
        self._line.close()
        self._line = Line(line, "the launcher", self._news, self._line_ended)
        for kind in kinds:
            self._refill(kind)

    async def prepare(self, level: str, account: str, interpreter: str, network: str) -> Shell:
        kind = level, account, interpreter, network
        while interpreter and self._stock[kind]:
            shell = self._stock[kind].popleft()
            if self._is_waited_in(shell):
                self._refill(kind)
                return shell
            self._keep(self._discard_quietly(shell))
        task = self._keep(self._prepare(level, account, interpreter, network))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:  # who asked leaves; what is being made goes to the stock, or away
            task.add_done_callback(lambda t: None if t.cancelled() or t.exception() else self._stow(kind, t.result()))
            raise
        finally:
            if interpreter:
                self._refill(kind)

    async def stock(self, level: str, account: str, interpreter: str, network: str) -> None:
        """Have one guest waiting, and more on their way. Raises StartFailed, OutOfSpace."""
        kind = level, account, interpreter, network
        if self._stock_shells and not self._stock[kind]:
            self._stow(kind, await self._prepare(level, account, interpreter, network))
        self._refill(kind)

    async def fork(self, shell: Shell, interpreter: str) -> KeptChild:
        """The guest that waits in `shell`, or a new one."""
        waiting = self._waiting.pop(shell.id, None)
        if waiting is not None:
            if waiting.alive:
                return waiting
            waiting.close()
        return await self._launch(shell, interpreter)

    async def fork_beside(self, shell: Shell, interpreter: str) -> KeptChild:
        """A new one; whoever waits there goes on waiting. Raises StartFailed, also where the level's shells hold one only."""
        return await self._launch(shell, interpreter, beside=True)

    async def _launch(self, shell: Shell, interpreter: str, *, beside: bool = False) -> KeptChild:
        if shell.id not in self._held:
            raise StartFailed(f"shell {shell.id} was discarded")
        asked: dict[str, Any] = {"op": "launch", "shell": shell.id, "interpreter": interpreter, "beside": beside}
        message, fds = await self._line.request(LAUNCH_S_MAX, **asked)
        return self._child(shell.id, message["ok"], fds)

    async def attach(self, shell: Shell, *, tree: str, memory_bytes: int, tmp_mib: int, opt_tree: str = "") -> None:
        asked: dict[str, Any] = {
            "shell": shell.id,
            "tree": tree,
            "opt_tree": opt_tree,
            "memory_bytes": memory_bytes,
            "tmp_mib": tmp_mib,
        }
        message, _ = await self._line.request(ATTACH_S_MAX, op="attach", **asked)
        waiting = self._waiting.pop(shell.id, None) if message["ok"]["again"] else None
        if waiting is not None:
            waiting.close()
            await self.scour(shell)

    async def freeze(self, shell: Shell, *, on: bool) -> None:
        """No shell of a launcher `freezes`."""
        raise StartFailed(f"shell {shell.id} cannot be {'frozen' if on else 'thawed'}: its level has no means for that")

    async def scour(self, shell: Shell) -> None:
        await self._line.request(SCOUR_S_MAX, op="scour", shell=shell.id)

    async def discard(self, shell: Shell) -> None:
        waiting = self._waiting.pop(shell.id, None)
        if waiting is not None:
            waiting.close()
        self._let_go(shell.id)
        if shell.id not in self._held:
            return
        self._held.discard(shell.id)
        line = self._line
        try:
            await line.request(DISCARD_S_MAX, op="discard", shell=shell.id)
        except StartFailed:
            if line.open:
                raise
        finally:
            self._forget(shell.id)

    async def usage(self, shell: Shell) -> Usage:
        message, _ = await self._line.request(USAGE_S_MAX, op="usage", shell=shell.id)
        return Usage(**message["ok"])

    async def close(self) -> None:
        """Let go of everything; the launcher ends what was ours."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shell_id in list(self._open):
            self._let_go(shell_id)
        self._line.close()

    async def _prepare(self, level: str, account: str, interpreter: str, network: str) -> Shell:
        shell_id = secrets.token_hex(8)
        line = self._line
        try:
            asked: dict[str, Any] = {
                "account": account,
                "interpreter": interpreter,
                "level": level,
                "network": network,
                "shell": shell_id,
            }
            message, fds = await line.request(LAUNCH_S_MAX, op="prepare", **asked)
        except (StartFailed, asyncio.CancelledError):
            if line.open:  # it may come into being all the same
                self._keep(self._discard_unheard(line, shell_id))
            raise
        if not line.open:
            close_all(fds)
            raise StartFailed("the launcher is gone")
        self._held.add(shell_id)
        files = dict(zip(message["ok"]["files"], fds, strict=False))
        del fds[: len(files)]
        if fds:
            self._waiting[shell_id] = self._child(shell_id, message["ok"], fds)
        self._open[shell_id] = files
        return Shell(id=shell_id, account=account, namespaces={}, cgroups=(), files=files, network=network)

    def _let_go(self, shell_id: str) -> None:
        """Close what is open of a shell's, once."""
        files = self._open.pop(shell_id, {})
        close_all([*files.values()])
        files.clear()

    def _child(self, shell_id: str, told: Message, fds: list[int]) -> KeptChild:
        wire, log = fds
        os.set_blocking(wire, False)
        os.set_blocking(log, False)
        guest = told["guest"]
        child = KeptChild(told["pid"], wire, log, lambda _, number: self._send(shell_id, guest, number))
        status = self._early.pop((shell_id, guest), None)
        if status is not None:
            child.ended(status)
        else:
            self._children[shell_id, guest] = child
        return child

    def _send(self, shell_id: str, guest: int, number: int) -> None:
        if self._line.open:
            self._keep(self._signal(shell_id, guest, number))

    async def _signal(self, shell_id: str, guest: int, number: int) -> None:
        try:
            await self._line.request(USAGE_S_MAX, op="signal", shell=shell_id, guest=guest, number=number)
        except Unavailable as error:
            _log.info("a signal could not be sent: %s", error)  # its shell is gone, or about to be

    async def _discard_unheard(self, line: Line, shell_id: str) -> None:
        try:
            await line.request(DISCARD_S_MAX, op="discard", shell=shell_id)
        except Unavailable as error:
            _log.warning("a shell nobody waited for could not be discarded: %s", error)

    async def _discard_quietly(self, shell: Shell) -> None:
        try:
            await self.discard(shell)
        except Unavailable as error:
            _log.warning("a shell of the stock could not be discarded: %s", error)

    def _is_waited_in(self, shell: Shell) -> bool:
        child = self._waiting.get(shell.id)
        return shell.id in self._held and child is not None and child.alive

    def _stow(self, kind: _Kind, shell: Shell) -> None:
        if self._closed or len(self._stock[kind]) >= self._stock_shells or not self._is_waited_in(shell):
            self._keep(self._discard_quietly(shell))
        else:
            self._stock[kind].append(shell)

    def _refill(self, kind: _Kind) -> None:
        if not self._closed and kind not in self._filling and len(self._stock[kind]) < self._stock_shells:
            task = self._filling[kind] = self._keep(self._fill(kind))
            task.add_done_callback(lambda _: self._filling.pop(kind, None))

    async def _fill(self, kind: _Kind) -> None:
        await asyncio.sleep(REFILL_AFTER_S)
        while self._line.open and len(self._stock[kind]) < self._stock_shells:
            try:
                self._stow(kind, await self._prepare(*kind))
            except Unavailable as error:
                _log.warning("no guest could be started ahead in %s: %s", kind[0], error)
                await asyncio.sleep(STOCK_PAUSE_S)
                return

    def _news(self, message: Message) -> None:
        if "ended" in message:
            self._guest_ended(message["ended"], message["guest"], message["status"])
        elif "no_room" in message:
            _log.warning(
                "shell %s was ended: it held most of what functions have of a disk that is nearly full", message["no_room"]
            )
        elif "over_tmp" in message:
            _log.warning("shell %s filled its temporary directory; its processes were ended", message["over_tmp"])

    def _guest_ended(self, shell_id: str, guest: int, status: int) -> None:
        child = self._children.pop((shell_id, guest), None)
        if child is None:
            if len(self._early) < EARLY_MAX:
                self._early[shell_id, guest] = status
            return
        child.ended(status)
        if self._waiting.get(shell_id) is child:  # of the stock: nobody else will notice
            for kind, stock in list(self._stock.items()):
                for shell in [shell for shell in stock if shell.id == shell_id]:
                    stock.remove(shell)
                    self._keep(self._discard_quietly(shell))
                    self._refill(kind)

    def _forget(self, shell_id: str) -> None:
        """Whoever waits for the end of a guest of its is told, should the launcher not have done so."""
        for key in [key for key in self._children if key[0] == shell_id]:
            self._children.pop(key).ended(-signal.SIGKILL)
        for key in [key for key in self._early if key[0] == shell_id]:
            del self._early[key]

    def _line_ended(self) -> None:
        for shell_id in list(self._open):  # a listening socket of ours would keep a dead network alive
            self._let_go(shell_id)
        for shell_id in self._held:
            self._forget(shell_id)
        self._held.clear()
        for child in self._waiting.values():
            child.close()
        self._waiting.clear()
        self._stock.clear()

    def _keep(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class LaunchedZygote:
    """`ondol.sandbox.Zygote` that launches: nothing is shared, so nothing is inherited."""

    rss_bytes = 0

    def __init__(self, launcher: Launcher, interpreter: str) -> None:
        self._launcher = launcher
        self._interpreter = interpreter

    async def fork(self, shell: Shell) -> KeptChild:
        return await self._launcher.fork(shell, self._interpreter)

    async def fork_beside(self, shell: Shell) -> KeptChild:
        return await self._launcher.fork_beside(shell, self._interpreter)


class LaunchedSandboxes:
    """`ondol.sandbox.Sandboxes` of one level."""

    def __init__(self, launcher: Launcher, level: str) -> None:
        self._launcher = launcher
        self._level = level
        self.attach = launcher.attach
        self.freeze = launcher.freeze
        self.scour = launcher.scour
        self.discard = launcher.discard
        self.usage = launcher.usage
        self.close = launcher.close
        self.use = launcher.use

    async def prepare(self, account: str, interpreter: str = "", network: str = NETWORK_NONE, told: bytes = b"") -> Shell:
        del told  # a guest that waits here is told nothing ahead, and has imported nothing: it is a started interpreter already
        path, _ = without_modules(interpreter)
        return await self._launcher.prepare(self._level, account, path, self._given(network))

    async def stock(self, account: str, interpreter: str, network: str = NETWORK_NONE, told: bytes = b"") -> None:
        del told
        path, _ = without_modules(interpreter)
        await self._launcher.stock(self._level, account, path, self._given(network))

    async def zygote(self, account: str, interpreter: str) -> LaunchedZygote:
        del account
        return LaunchedZygote(self._launcher, without_modules(interpreter)[0])

    def _given(self, network: str) -> str:
        """Plain processes have the machine's network, whatever is asked for: that is what the level means."""
        return NETWORK_HOST if self._level == "process" else network
