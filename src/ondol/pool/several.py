"""An environment whose calls run side by side, each in a process of its own. They share the shell: its memory, its /tmp.

What differs from one that has a single process:

* **Processes.** One is placed when a call finds none free, and kept for later calls; each loads the function for itself. Of a
  custom runtime a worker is a lane to the one process that there is (`runtimes/api_crowd.py`), which dies for all of them.
* **Time.** A call that is out of time is answered so, then and there, and what it still does is left alone: what is killed in a
  shell is killed together, and its neighbours have done nothing wrong. The environment is *spent* by that: it is given nothing
  more, and ends, with all that still runs in it, once its other calls have.
* **Deaths.** A process that dies takes along the call it had and no other. The next call that needs one gets a new one.

* **Company.** There is one, which came with the first process and stays until the environment ends. Nobody in it is told of
  calls, so an environment is free as soon as its calls are answered.

Invariants: a process runs one call at a time, and none after one that ran out of time in it; nothing outlives `close`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ondol.model.errors import OndolError
from ondol.pool.environment import Environment
from ondol.pool.makings import Makings
from ondol.pool.run import LOST, Run
from ondol.runtime import Answer, Call, Company, Worker

if TYPE_CHECKING:
    from ondol.model.functions import Revision
    from ondol.model.invocations import Status

_log = logging.getLogger(__name__)

#: How long a process whose line is closed may take to be gone.
GOODBYE_S_MAX: Final = 2.0


class Several(Environment):
    """See the module."""

    def __init__(
        self,
        revision: Revision,
        makings: Makings,
        on_death: Callable[[], None],
        *,
        pinned: bool = False,
        tenant: str | None = None,
    ) -> None:
        super().__init__(revision, makings, on_death, pinned=pinned, tenant=tenant)
        #: All that were placed and are not known to be gone; and those that run nothing, the one used last at the end.
        self._workers: set[Worker] = set()
        self._free: list[Worker] = []
        self._others: Company | None = None
        #: Told when the time of a call is up.
        self._overdue: dict[Run, asyncio.Future[None]] = {}

    @property
    def prompt(self) -> bool:
        """Which process a call goes to is found out by the call itself."""
        return False

    async def _place_worker(self, attached: Awaitable[None] | None = None) -> Worker:
        worker = await self._another(attached)
        self._free.append(worker)
        return worker

    async def _another(self, attached: Awaitable[None] | None = None) -> Worker:
        worker = await self._launch(attached)
        self._others = worker.company
        self._workers.add(worker)
        self._spawn(self._watch(worker))
        return worker

    @property
    def _company(self) -> Company | None:
        return self._others

    def loaded(self) -> Coroutine[Any, Any, None]:
        return self._await_loaded(self._free[-1])

    def _has_loaded(self) -> bool:
        return bool(self._free) and self._free[-1].init_ms is not None

    async def _watch(self, worker: Worker) -> None:
        """One that dies while it runs nothing is forgotten; the last of them takes the environment with it."""
        await worker.ended()
        if worker not in self._free:
            return  # whose call it had sees to it
        self._free.remove(worker)
        self._workers.discard(worker)
        worker.close()
        if not self._workers and not self._running:
            self.broken = True
            self._on_death()

    def _let_go(self) -> None:
        if self._closed and not self._running:
            for worker in self._workers:
                worker.close()
            self._workers.clear()
            self._free.clear()
            if self._others is not None:
                self._others.close()

    def _dismiss(self, worker: Worker) -> None:
        """It alone; with others that nobody knows, if it came when the environment was ended already."""
        worker.close()
        if worker.company is not None and worker.company is not self._others:
            worker.company.close()

    # A call ------------------------------------------------------------------------------------------------------------
    async def _run(self, run: Run, call: Call) -> Answer | None:
        early_s = self._early_s(run) if self._free else 0.0
        worker = self._free.pop() if self._free else await self._one_more()
        if worker is None:
            return LOST
        run.worker = worker
        run.fresh = run.cold = worker.init_ms is None
        overdue = self._overdue[run] = self._loop.create_future()
        answering = asyncio.ensure_future(self._sent(worker, call, self.contract.sifted(run.log)))
        if run.fresh:
            run.early_s = early_s
        else:
            run.open()
        self._alarm.set(run, run.timeout_s)
        try:
            await asyncio.wait((answering, overdue), return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() and not run.timed_out else None
        finally:
            del self._overdue[run]
            if not answering.done():
                answering.cancel()
                with suppress(asyncio.CancelledError):
                    await answering

    async def _one_more(self) -> Worker | None:
        try:
            return None if self.broken else await self._another()
        except Exception as error:
            if not isinstance(error, OndolError):
                _log.error("placing a worker of %s failed", self.revision.name, exc_info=error)
            self.spent = True
            return None

    async def _kill(self, run: Run) -> None:
        """The caller's wait is over, not the call."""
        self.spent = True
        if run in self._overdue:
            self._overdue[run].set_result(None)
        if run.stream is not None:
            run.stream.cut = True
            await run.stream.finish()

    def _abandon(self, run: Run) -> None:
        self.spent = True
        run.worker = None

    def _leave(self, run: Run) -> None:
        if run.worker in self._workers and not run.timed_out:
            self._free.append(run.worker)
        if self._others is not None and self._others.broken:
            self.spent = True
        super()._leave(run)

    async def _autopsy(self, run: Run, status: Status) -> tuple[Status, int | None]:
        return (status, None) if run.timed_out else await super()._autopsy(run, status)

    def _bury(self, worker: Worker, reason: str = "failure") -> Awaitable[int | None]:  # noqa: ARG002  (nobody else is told)
        """It is dead, or to end by losing its line; what does not ends with the environment, which takes nothing more then."""
        self._workers.discard(worker)
        return self._see_off(worker)

    async def _see_off(self, worker: Worker) -> int | None:
        worker.close()
        try:
            async with asyncio.timeout(GOODBYE_S_MAX):
                return await worker.ended()
        except TimeoutError:
            self.spent = True
            return None
