"""Sandboxes made by the keeper: the asyncio end of its line, and of the zygotes' lines.

Knows the two lines' protocols (docs/explain/architecture.md) and nothing of functions. Keeps a small stock of prepared shells
per account, interpreter and network, each with a child of the zygote waiting in it, refilled in the background: making a shell
takes milliseconds and joining its cgroup may take twenty, which are nobody's request's.

Invariants: a descriptor is in one hand, and closed once, also when who asked for it no longer waits; every wait is bounded;
what belonged to a line that ended is treated as gone, because the keeper ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ondol.model.errors import StartFailed, Unavailable
from ondol.sandbox import NETWORK_NONE, Claims, Shell, Usage, without_modules
from ondol.sandboxes.demand import Demand
from ondol.sandboxes.line import Line, Message, close_all

PREPARE_S_MAX = 10.0
ATTACH_S_MAX = 5.0
FREEZE_S_MAX = 5.0
SCOUR_S_MAX = 5.0
DISCARD_S_MAX = 30.0
USAGE_S_MAX = 5.0
ZYGOTE_S_MAX = 45.0
FORK_S_MAX = 5.0
SIGNAL_S_MAX = 2.0
#: How long after something was taken from the stock it is filled again.
REFILL_AFTER_S = 0.03
#: How often one who waits for the first shell looks.
GLANCE_S = 0.005
#: Of all kinds together, however many are wanted: each costs an idle process, its shell and their memory.
STOCK_SHELLS_MAX = 64
#: Of those whose child was told something: it is a started program, which takes tens of megabytes, not a fork's few. So many at
#: most, and one for so much of the memory that functions may have.
STOCK_TOLD_MAX = STOCK_SHELLS_MAX
STOCK_TOLD_MEMORY_MIB = 128
#: … and of each kind of them, so many are ready while it is in use.
STOCK_TOLD_LEAST = 2
#: How often shells that are not wanted any more are let go, one of each kind.
TRIM_EVERY_S = 1.0
#: After a failed refill of the stock.
STOCK_PAUSE_S = 0.5

#: What stands between functions in the keeper's shells.
CLAIMS = Claims(files=True, processes=True, network=True, code_read_only=True, tmp=True, kernel=False, several=True)

_log = logging.getLogger("ondol.sandboxes")
_Result = TypeVar("_Result")
#: Account, interpreter ("" for shells that nobody waits in), network, and what whoever waits was told.
_Kind = tuple[str, str, str, bytes]


class KeptChild:
    """A process that a zygote forked. `send` has a signal sent to it, where somebody can do that."""

    def __init__(self, pid: int, wire: int, log: int, send: Callable[[int, int], None] | None = None) -> None:
        self.pid = pid
        self._send = send
        self.wire = wire
        self.log = log
        self.told = b""
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        return not self._status.done()

    def close(self) -> None:
        """Nobody will talk to it."""
        close_all([self.wire, self.log])

    async def wait(self) -> int:
        """How it ended; -9 also when its zygote died, who alone could say."""
        return await asyncio.shield(self._status)

    def signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        if self._send is not None and self.alive:
            self._send(self.pid, number)

    def ended(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)


class KeptZygote:
    """The line to one zygote."""

    def __init__(
        self, sock: socket.socket, elsewhere: Callable[[Shell], KeptZygote | None], *, rss_bytes: int, version: str
    ) -> None:
        """`elsewhere`: whose child waits in a shell, of all zygotes."""
        self.rss_bytes = rss_bytes
        self.version = version
        self._elsewhere = elsewhere
        self._children: dict[int, KeptChild] = {}
        #: Forked ahead of need: they have entered their shell, and wait there to be told what they are. By shell.
        self._waiting: dict[str, KeptChild] = {}
        #: Asked for and not yet answered.
        self._forks = 0
        self._signals: set[asyncio.Task[None]] = set()
        self._line = Line(sock, "the zygote", self._news, self._gone)

    @property
    def alive(self) -> bool:
        return self._line.open

    async def fork(self, shell: Shell) -> KeptChild:
        waiting = self._waiting.pop(shell.id, None)
        if waiting is not None:
            if waiting.alive:
                return waiting
            waiting.close()
        elif (other := self._elsewhere(shell)) is not None:
            return await other.fork(shell)  # it stood in for this one when the shell was taken
        return await self._fork(shell)

    async def fork_beside(self, shell: Shell) -> KeptChild:
        """Whoever waits there goes on waiting."""
        return await self._fork(shell)

    async def fork_ahead(self, shell: Shell, told: bytes = b"") -> None:
        """Fork now, for the next `fork` to take: entering a cgroup alone may take 20 ms, which are nobody's request's."""
        child = self._waiting[shell.id] = await self._fork(shell, ahead=not told)
        if told:
            child.told = told
            if os.write(child.wire, told) != len(told):
                raise StartFailed(f"what the child in shell {shell.id} is to be told ahead is more than its wire takes")

    @property
    def idle(self) -> bool:
        """It has no child, and none is on its way."""
        return not self._children and not self._forks

    def is_waiting(self, shell: Shell) -> bool:
        """Whether a child forked ahead waits in `shell`."""
        child = self._waiting.get(shell.id)
        return child is not None and child.alive

    def forget(self, shell: Shell) -> None:
        """The shell is discarded, with whoever waits in it."""
        child = self._waiting.pop(shell.id, None)
        if child is not None:
            child.close()

    async def _fork(self, shell: Shell, *, ahead: bool = False) -> KeptChild:
        if not shell.namespaces:
            raise StartFailed(f"shell {shell.id} was discarded")
        fds = [*shell.namespaces.values(), *shell.cgroups]
        self._forks += 1
        try:
            # One after the other: each in front has its time, too.
            bound_s = FORK_S_MAX * self._forks
            asked: dict[str, Any] = {"namespaces": list(shell.namespaces), "bounds": sorted(shell.bounds), "ahead": ahead}
            message, fds = await self._line.request(bound_s, fds, op="fork", **asked)
        finally:
            self._forks -= 1
        wire, log = fds
        os.set_blocking(wire, False)
        os.set_blocking(log, False)
        child = KeptChild(message["pid"], wire, log, self._signal)
        if not self.alive:
            child.ended(-signal.SIGKILL)
        self._children[child.pid] = child
        return child

    def _signal(self, pid: int, number: int) -> None:
        task = asyncio.get_running_loop().create_task(self._ask_signal(pid, number))
        self._signals.add(task)
        task.add_done_callback(self._signals.discard)

    async def _ask_signal(self, pid: int, number: int) -> None:
        try:
            await self._line.request(SIGNAL_S_MAX, op="signal", pid=pid, signal=number)
        except Unavailable as error:
            _log.info("signal %d could not be sent to %d: %s", number, pid, error)

    def _news(self, message: Message) -> None:
        child = self._children.pop(message.get("exit", 0), None)
        if child is not None:
            child.ended(message["status"])

    def _gone(self) -> None:
        for child in self._children.values():
            child.ended(-signal.SIGKILL)
        self._children.clear()
        for child in self._waiting.values():
            child.close()
        self._waiting.clear()

    def close(self) -> None:
        self._line.close()


class KeptSandboxes:
    """`ondol.sandbox.Sandboxes` over a keeper's line. Make it where an event loop runs."""

    def __init__(self, line: socket.socket, *, stock_shells: int = 2, memory_mib_max: int = 2048) -> None:
        """`memory_mib_max`: what functions may have in all, a part of which may be kept busy by programs that wait."""
        self._stock_shells = stock_shells
        self._told_max = min(STOCK_TOLD_MAX, max(memory_mib_max // STOCK_TOLD_MEMORY_MIB, STOCK_TOLD_LEAST))
        #: How many of each kind are to be ready, and the timer that lets go of those that are not wanted any more.
        self._demand: dict[_Kind, Demand] = {}
        self._trimming: asyncio.TimerHandle | None = None
        self._stock: dict[_Kind, deque[Shell]] = defaultdict(deque)
        self._filling: dict[_Kind, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._zygotes: dict[tuple[str, str], asyncio.Task[KeptZygote]] = {}
        #: Starts that wait for a shell to be made, and whether there is none: nothing is made for the stock meanwhile.
        self._awaited = 0
        self._nobody_waits = asyncio.Event()
        self._nobody_waits.set()
        #: Zygotes that were ended because nobody needed them; the bare ones stand in for them until they are up again.
        self._ended: set[tuple[str, str]] = set()
        #: What the last shell was given. The next is prepared with it: a limit that stays is not set on a call's way.
        self._memory_bytes = 0
        #: Shells that the present keeper knows, and those whose descriptors are open.
        self._held: set[str] = set()
        self._open: dict[str, Shell] = {}
        self._closed = False
        self._line = Line(line, "the keeper", self._news, self._line_ended)

    def use(self, line: socket.socket) -> None:
        """A new line, after the keeper was started again; whatever came by the old one is gone."""
        kinds = list(self._stock)
        self._line.close()
        self._line = Line(line, "the keeper", self._news, self._line_ended)
        for kind in kinds:
            self._refill(kind)

    async def prepare(self, account: str, interpreter: str = "", network: str = NETWORK_NONE, told: bytes = b"") -> Shell:
        kind = account, interpreter, network, told
        self._wish(kind).taken(asyncio.get_running_loop().time())
        if not self._stock[kind] and (account, interpreter) in self._ended:
            self._keep(self._zygote_again(account, interpreter))
            self._refill(kind)
            return await self.prepare(account, without_modules(interpreter)[0], network, told)
        stock = self._stock[kind]
        while stock:
            shell = stock.popleft()
            if shell.id in self._held and (not interpreter or self._is_waited_in(shell)):
                self._refill(kind)
                return shell
            self._keep(self._discard_quietly(shell))
        self._refill(kind)
        self._awaited += 1
        self._nobody_waits.clear()
        try:
            return await self._unless_cancelled(self._prepare(account, network), self._stock[account, "", network, b""].append)
        finally:
            self._awaited -= 1
            if not self._awaited:
                self._nobody_waits.set()

    async def stock(self, account: str, interpreter: str, network: str = NETWORK_NONE, told: bytes = b"") -> None:
        """Have the zygote up and one shell ready, and more on their way. Raises StartFailed, OutOfSpace."""
        kind = account, interpreter, network, told
        if _is_dear(kind):
            now_s = asyncio.get_running_loop().time()
            if kind not in self._demand:  # asked for anew it is for another kind's sake
                self._wish(kind).taken(now_s)
            elif self._wish(kind).is_over(now_s):
                return
        await self._zygote_of(account, interpreter)
        self._refill(kind, after_s=0.0)
        while not self._stock[kind] and kind in self._filling:  # noqa: ASYNC110  # once, at the start
            await asyncio.sleep(GLANCE_S)

    async def attach(self, shell: Shell, *, tree: str, memory_bytes: int, tmp_mib: int, opt_tree: str = "") -> None:
        self._memory_bytes = memory_bytes
        beside: dict[str, Any] = {"opt_tree": opt_tree} if opt_tree else {}
        message, _ = await self._line.request(
            ATTACH_S_MAX, op="attach", shell=shell.id, tree=tree, memory_bytes=memory_bytes, tmp_mib=tmp_mib, **beside
        )
        if message["ok"]["another_tmp"]:  # whoever waits there put up its walls around the one that it saw
            for zygote in self._living():
                zygote.forget(shell)

    async def freeze(self, shell: Shell, *, on: bool) -> None:
        await self._line.request(FREEZE_S_MAX, op="freeze", shell=shell.id, on=on)

    async def scour(self, shell: Shell) -> None:
        await self._line.request(SCOUR_S_MAX, op="scour", shell=shell.id)

    async def discard(self, shell: Shell) -> None:
        for zygote in self._living():
            zygote.forget(shell)
        self._let_go(shell)
        if shell.id not in self._held:
            return
        self._held.discard(shell.id)
        line = self._line
        try:
            await self._line.request(DISCARD_S_MAX, op="discard", shell=shell.id)
        except StartFailed:
            if line.open:
                raise

    async def usage(self, shell: Shell) -> Usage:
        message, _ = await self._line.request(USAGE_S_MAX, op="usage", shell=shell.id)
        return Usage(**message["ok"])

    async def zygote(self, account: str, interpreter: str) -> KeptZygote:
        if (account, interpreter) in self._ended:
            interpreter, _ = without_modules(interpreter)
        return await self._zygote_of(account, interpreter)

    async def _zygote_of(self, account: str, interpreter: str) -> KeptZygote:
        key = (account, interpreter)
        task = self._zygotes.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() or not task.result().alive)):
            task = self._zygotes[key] = self._keep(self._start_zygote(account, interpreter))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let go of everything; the keeper ends what was ours."""
        self._closed = True
        if self._trimming is not None:
            self._trimming.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for zygote in self._living():
            zygote.close()
        self._line.close()

    async def _prepare(self, account: str, network: str) -> Shell:
        shell_id = secrets.token_hex(8)
        line = self._line
        try:
            message, fds = await line.request(
                PREPARE_S_MAX, op="prepare", account=account, shell=shell_id, network=network, memory_bytes=self._memory_bytes
            )
        except (StartFailed, asyncio.CancelledError):
            if line.open:  # it may come into being all the same
                self._keep(self._discard_unheard(line, shell_id))
            raise
        shell = _shell(shell_id, account, network, message["ok"], fds)
        self._open[shell_id] = shell
        self._held.add(shell_id)
        if not line.open:
            self._held.discard(shell_id)
            self._let_go(shell)
            raise StartFailed("the keeper is gone")
        return shell

    async def _discard_unheard(self, line: Line, shell_id: str) -> None:
        try:
            await line.request(DISCARD_S_MAX, op="discard", shell=shell_id)
        except Unavailable as error:
            _log.warning("a shell nobody waited for could not be discarded: %s", error)

    async def _start_zygote(self, account: str, interpreter: str) -> KeptZygote:
        path, ahead = without_modules(interpreter)
        message, fds = await self._line.request(ZYGOTE_S_MAX, op="zygote", account=account, interpreter=path, ahead=ahead)
        self._ended.discard((account, interpreter))
        if ahead:
            self._trim_later()  # which ends it once it is not needed
        return KeptZygote(socket.socket(fileno=fds[0]), self._waited_in_by, **message["ok"])

    async def _zygote_again(self, account: str, interpreter: str) -> None:
        try:
            await self._zygote_of(account, interpreter)
        except Unavailable as error:
            _log.warning("%s could not be started again: %s", interpreter, error)

    async def _unless_cancelled(self, work: Coroutine[Any, Any, _Result], spare: Callable[[_Result], None]) -> _Result:
        """Wait for `work`; when the waiter leaves, it still finishes, and `spare` takes the result."""
        task = self._keep(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda t: None if t.cancelled() or t.exception() else spare(t.result()))
            raise

    def _living(self) -> list[KeptZygote]:
        done = [task for task in self._zygotes.values() if task.done() and not task.cancelled()]
        return [task.result() for task in done if task.exception() is None and task.result().alive]

    def _waited_in_by(self, shell: Shell) -> KeptZygote | None:
        return next((zygote for zygote in self._living() if zygote.is_waiting(shell)), None)

    def _is_waited_in(self, shell: Shell) -> bool:
        return self._waited_in_by(shell) is not None

    async def _discard_quietly(self, shell: Shell) -> None:
        try:
            await self.discard(shell)
        except Unavailable as error:
            _log.warning("a shell of the stock could not be discarded: %s", error)

    def _refill(self, kind: _Kind, after_s: float = REFILL_AFTER_S) -> None:
        if not self._closed and kind not in self._filling and self._lacks(kind):
            task = self._filling[kind] = self._keep(self._fill(kind, after_s))
            task.add_done_callback(lambda _: self._filling.pop(kind, None))

    def _lacks(self, kind: _Kind) -> bool:
        """Whether one more is to be made ready. Beyond the least, all kinds share what may be kept in all."""
        have, now_s, told = len(self._stock[kind]), asyncio.get_running_loop().time(), kind[-1]
        if told and sum(len(stock) for each, stock in self._stock.items() if each[-1]) >= self._told_max:
            return False
        if have < self._wish(kind).least(now_s):
            return True
        in_all = sum(len(stock) for stock in self._stock.values())
        return in_all < STOCK_SHELLS_MAX and have < self._wish(kind).wanted(now_s)

    def _wish(self, kind: _Kind) -> Demand:
        if kind not in self._demand:
            told = kind[-1]
            least = min(self._stock_shells, STOCK_TOLD_LEAST) if told else self._stock_shells
            self._demand[kind] = Demand(least, self._told_max if told else STOCK_SHELLS_MAX, dear=_is_dear(kind))
        return self._demand[kind]

    def _trim_later(self) -> None:
        if self._trimming is None and not self._closed:
            self._trimming = asyncio.get_running_loop().call_later(TRIM_EVERY_S, self._trim)

    def _trim(self) -> None:
        """Let go of one shell of each kind that has more than are wanted by now; again while there are such."""
        self._trimming = None
        now_s = asyncio.get_running_loop().time()
        for kind, stock in self._stock.items():
            if len(stock) > (0 if _is_dear(kind) else self._stock_shells):
                self._trim_later()
                if len(stock) > self._wish(kind).wanted(now_s):
                    self._keep(self._discard_quietly(stock.pop()))
        self._end_unused(now_s)

    def _end_unused(self, now_s: float) -> None:
        """End zygotes that imported ahead what nobody needs any more: each keeps tens of megabytes."""
        for key, task in list(self._zygotes.items()):
            if not without_modules(key[1])[1] or not task.done() or task.cancelled() or task.exception() is not None:
                continue
            kinds = [kind for kind in self._demand if kind[:2] == key]
            if not task.result().idle or not all(self._wish(kind).is_over(now_s) for kind in kinds):
                self._trim_later()
                continue
            del self._zygotes[key]
            self._ended.add(key)
            task.result().close()

    async def _fill(self, kind: _Kind, after_s: float) -> None:
        account, _interpreter, network, _told = kind
        # Whoever took the last one is still being served by the keeper, who does one thing at a time.
        await asyncio.sleep(after_s)
        while self._line.open and self._lacks(kind):
            if self._awaited:  # they go first
                await self._nobody_waits.wait()
                continue
            try:
                shell = await self._prepare(account, network)
                await self._stow(kind, shell)
            except Unavailable as error:
                _log.warning("no shell could be prepared ahead: %s", error)
                await asyncio.sleep(STOCK_PAUSE_S)
                return

    async def _stow(self, kind: _Kind, shell: Shell) -> None:
        """Into the stock, with somebody waiting in it; or it is discarded."""
        account, interpreter, _network, told = kind
        try:
            if interpreter:
                await (await self._zygote_of(account, interpreter)).fork_ahead(shell, told)
            if shell.id not in self._held or (interpreter and not self._is_waited_in(shell)):
                raise StartFailed(f"shell {shell.id} ended while it was being prepared")
        except (Unavailable, asyncio.CancelledError):
            self._keep(self._discard_quietly(shell))
            raise
        self._stock[kind].append(shell)
        if _is_dear(kind) or len(self._stock[kind]) > self._stock_shells:
            self._trim_later()

    def _let_go(self, shell: Shell) -> None:
        """Close the shell's descriptors, once."""
        if self._open.pop(shell.id, None) is not None:
            close_all([*shell.namespaces.values(), *shell.cgroups, *shell.files.values()])
            shell.namespaces.clear()
            shell.files.clear()

    def _news(self, message: Message) -> None:
        if "gone" in message:
            _log.warning("shell %s ended by itself", message["gone"])
            self._clear_away(message["gone"])
        elif "no_room" in message:
            _log.warning(
                "shell %s was ended: it held most of what functions have of a disk that is nearly full", message["no_room"]
            )
            if (shell := self._open.get(message["no_room"])) is not None:
                self._let_go(shell)  # our descriptors would keep its disk
            self._clear_away(message["no_room"])
        elif "over_tmp" in message:
            _log.warning("shell %s filled its /tmp; its processes were ended", message["over_tmp"])

    def _clear_away(self, shell_id: str) -> None:
        """A shell of the stock that ended: nobody else will. One in use is its user's, who hears of its process's end."""
        for kind, stock in list(self._stock.items()):
            for shell in [shell for shell in stock if shell.id == shell_id]:
                stock.remove(shell)
                self._keep(self._discard_quietly(shell))
                self._refill(kind)

    def _line_ended(self) -> None:
        """Their keeper ends the shells; our descriptors must not keep what is left of them (mounts, disks) alive."""
        self._held.clear()
        self._stock.clear()
        self._ended.clear()
        for shell in list(self._open.values()):
            self._let_go(shell)

    def _keep(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _is_dear(kind: _Kind) -> bool:
    """Whether who waits in its shells takes so much that it is kept only while it is in use."""
    return bool(kind[-1] or without_modules(kind[1])[1])


def _shell(shell_id: str, account: str, network: str, said: Message, fds: list[int]) -> Shell:
    """From the keeper's answer: what its descriptors are, in their order."""
    rest = iter(fds)
    return Shell(
        id=shell_id,
        account=account,
        network=network,
        namespaces={name: next(rest) for name in said["namespaces"]},
        cgroups=tuple(next(rest) for _ in range(said["cgroups"])),
        files={name: next(rest) for name in said["files"]},
        freezes=said["freezes"],
        early=True,
        bounds=frozenset(said["bounds"]),
    )
