"""A process that speaks the Runtime API and asks several questions at a time, and the lanes by which calls come to it.

To the pool each lane is a worker of its own that runs one call at a time (`pool/several.py`); all lanes of an environment
lead to one process. What differs from a process that answers one call after another:

* **States** are each call's own: what is answered counts for the call whose id the process names, once.
* **Questions** wait in line, as many as calls may run; who asks more often has two minds, and the oldest question is refused.
* **Lines** belong to the one call that runs. While several do, a line belongs to the call whose id stands in it, and else to
  the environment: the process alone could tell.
* **Its end** is the end of every call that it was given; those that wait for a question were not started.

Must not know: shells, the pool, HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ondol.runtime import Answer, Begin, Call, Company, LogSink
from ondol.runtimes.api_states import Runtime, State
from ondol.runtimes.api_worker import Answering, ApiWorker, Complaint, Given, Take
from ondol.sandbox import Child

#: Exit status of a lane that was closed while its process goes on.
_LEFT: Final = 0


class Exchange:
    """One call that the process was given, until its answer is whole."""

    def __init__(self, given: Given, crowd: Crowd) -> None:
        self.given = given
        self._crowd = crowd
        self._state = Runtime(State.RUNNING)

    def move(self, to: State) -> None:
        """Raises NotAllowed."""
        self._state.move(to)

    def answer(self, answer: Answer) -> None:
        """Its answer is whole, or, for one that streams, begins."""
        self._crowd.flush()
        if not self.given.future.done():
            self.given.future.set_result(
                Answer(ending=answer.ending, meta=answer.meta, body=answer.body, init_ms=self._crowd.loading_of(self.given))
            )
        if isinstance(answer.body, bytes):
            self._crowd.over(self)

    def streamed(self) -> None:
        self._crowd.flush()
        self._crowd.over(self)


class Crowd(ApiWorker):
    """See the module. `lane` gives the workers; this one takes no calls by itself."""

    def __init__(
        self, child: Child, sink: LogSink, complaint: Complaint, left: Callable[[ApiWorker], None], *, calls_max: int
    ) -> None:
        super().__init__(child, sink, complaint, left)
        self._calls_max = calls_max
        self._lanes: set[Lane] = set()
        self._waiting: deque[Given] = deque()
        self._questions: deque[Take] = deque()
        self._exchanges: dict[str, Exchange] = {}
        self._signalled: set[int] = set()
        #: Calls that came while it loaded.
        self._early: set[Given] = set()

    def lane(self) -> Lane:
        lane = Lane(self)
        self._lanes.add(lane)
        return lane

    def part(self, lane: Lane) -> None:
        """Nothing more comes by this one; without any the process is let go."""
        self._lanes.discard(lane)
        if not self._lanes:
            self.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def signal(self, number: int) -> None:
        """Once: whoever wants all lanes to end asks each of them."""
        if number not in self._signalled:
            self._signalled.add(number)
            super().signal(number)

    def _expect(self, given: Given) -> None:
        self._waiting.append(given)
        if self._init_ms is None:
            self._early.add(given)

    async def _answered(self, given: Given, future: asyncio.Future[Answer]) -> Answer:
        try:
            return await future
        finally:
            self._early.discard(given)
            if given in self._waiting:  # the caller did not wait for it
                self._waiting.remove(given)

    # What the process does ---------------------------------------------------------------------------------------------
    def ask(self, take: Take) -> None:
        """It wants one more invocation; None when there will be no more for this question. Raises NotAllowed."""
        self.runtime.move(State.READY)
        self._has_loaded()
        if not self._alive:
            take(None)
            return
        while len(self._questions) >= self._calls_max:
            self._questions.popleft()(None)
        self._questions.append(take)
        self._hand_over()

    def forget(self, take: Take) -> None:
        if take in self._questions:
            self._questions.remove(take)
            take(None)

    def answering(self, invocation: str) -> Answering | None:
        return self._exchanges.get(invocation)

    def loading_of(self, given: Given) -> float | None:
        """How long loading took, to a call that waited for it."""
        return self._init_ms if given in self._early else None

    def over(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange.given.id, None)

    def _hand_over(self) -> None:
        while self._questions and self._waiting:
            take, given = self._questions.popleft(), self._waiting.popleft()
            self._exchanges[given.id] = Exchange(given, self)
            take(given)

    # Its end -----------------------------------------------------------------------------------------------------------
    def _lost(self) -> None:
        self._alive = False
        self.flush()
        while self._questions:
            self._questions.popleft()(None)
        taken = [exchange.given for exchange in self._exchanges.values()]
        waiting = list(self._waiting)
        self._waiting.clear()
        self._exchanges.clear()
        for given in (*taken, *waiting):
            self._give_up(given, started=given in taken or self._init_ms is None)

    def _line(self, text: str, at_ms: int | None) -> None:
        running = self._exchanges
        if len(running) == 1:
            found = next(iter(running.values()))
        else:
            named = [exchange for invocation, exchange in running.items() if invocation in text]
            if len(named) != 1:
                self._sink(text, at_ms)
                return
            found = named[0]
        found.given.sink(text, at_ms)


class Lane:
    """`ondol.runtime.Worker`: the way of one call at a time to a crowd's process."""

    def __init__(self, crowd: Crowd) -> None:
        self.company: Company | None = None
        self.begin: Begin | None = None
        self._crowd = crowd
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        return self._crowd.alive

    @property
    def init_ms(self) -> float | None:
        return self._crowd.init_ms

    async def ended(self) -> int:
        """The process's end; of a lane that is closed while the process has others, that."""
        exited = asyncio.ensure_future(self._crowd.ended())
        try:
            await asyncio.wait((exited, self._gone), return_when=asyncio.FIRST_COMPLETED)
            return _LEFT if not exited.done() and not self._crowd.closed else await exited
        finally:
            exited.cancel()

    def call(self, call: Call, sink: LogSink) -> Awaitable[Answer]:
        return self._crowd.call(call, sink)

    def close(self) -> None:
        if self._gone.done():
            return
        self._gone.set_result(None)
        self._crowd.part(self)

    def signal(self, number: int) -> None:
        self._crowd.signal(number)

    def become(self, told: Mapping[str, Any]) -> None:
        """Raises OSError."""
        self._crowd.become(told)
