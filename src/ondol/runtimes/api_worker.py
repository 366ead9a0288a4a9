"""The node's end of a process that speaks the Runtime API: its calls, its log pipe, its life.

`api_http.py` brings what the process asks for and answers; here it meets the calls. What must hold:

* One call at a time: it is handed to the process's pending question, or waits for the next one.
* Lines written before an answer reach the sink before the answer reaches the caller, as in link.py.
* A call always gets an answer. `started` is False only when the process went away without having been given the call.
* Nothing is believed: an answer counts for the call that runs, once, in the states of `api_states.py`; how long loading took is
  measured here.

Must not know: shells, the pool, HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from ondol.model.errors import Unavailable
from ondol.model.limits import RESULT_BYTES_MAX
from ondol.runtime import Answer, Begin, Call, Company, Ending, LogSink
from ondol.runtimes.api_states import Runtime, State
from ondol.runtimes.logpipe import LogPipe
from ondol.runtimes.metas import meta_of
from ondol.runtimes.program import Becoming, exit_of
from ondol.runtimes.then import Then
from ondol.sandbox import Child

#: How long after the process's end its last words may still be on their way to us.
LAST_WORDS_S: Final = 0.02

log = logging.getLogger(__name__)


class Given:
    """One invocation, as the process is given it."""

    __slots__ = ("future", "meta", "payload", "sink")

    def __init__(self, meta: Mapping[str, Any], payload: bytes, future: asyncio.Future[Answer] | Then, sink: LogSink) -> None:
        self.meta = meta
        self.payload = payload
        self.future = future
        self.sink = sink

    @property
    def id(self) -> str:
        """The invocation's, by which the process answers."""
        return str(self.meta.get("id", ""))


class Answering(Protocol):
    """A call that the process was given, as it is answered."""

    def move(self, to: State) -> None:
        """The process begins to answer. Raises NotAllowed."""
        ...

    def answer(self, answer: Answer) -> None:
        """Its answer is whole, or, for one that streams, begins."""
        ...

    def streamed(self) -> None:
        """An answer that streamed is whole, or broken."""
        ...


#: Takes an invocation for who asked; None when there will be no more.
Take = Callable[[Given | None], None]
#: What could not be executed and the system's error number -> what callers are told.
Complaint = Callable[[str, int], str]


class ApiWorker:
    """`ondol.runtime.Worker` over the Runtime API. Make it where an event loop runs."""

    def __init__(self, child: Child, sink: LogSink, complaint: Complaint, left: Callable[[ApiWorker], None]) -> None:
        """Takes over `child`'s descriptors. `left` is called once, by `close`."""
        self.company: Company | None = None
        self.begin: Begin | None = self._begin_call
        self._child = child
        self.runtime = Runtime()
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        self._complaint = complaint
        self._left = left
        self._began_s = self._loop.time()
        self._init_ms: float | None = None
        self._init_told = False
        self._alive = True
        self._closed = False
        #: The call under way, whether the process was given it, and who waits for one.
        self._given: Given | None = None
        self._taken = False
        self._asking: Take | None = None
        #: Why it could not be executed: (type, message without its request id).
        self._unexecuted = ""
        self._failed: Answer | None = None
        self._becoming = Becoming(child.wire, self._not_executed)
        self._log = LogPipe(child.log, self._line, lambda: None)
        self._exit = self._loop.create_task(exit_of(child), name=f"runtime {child.pid}")
        self._grace: asyncio.TimerHandle | None = None
        self._exit.add_done_callback(self._exited)

    # The port ----------------------------------------------------------------------------------------------------------
    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def init_ms(self) -> float | None:
        return self._init_ms

    async def ended(self) -> int:
        return await asyncio.shield(self._exit)

    def call(self, call: Call, sink: LogSink) -> Awaitable[Answer]:
        """Hand it to the process if that asks for one now; else when it does."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        given = Given(meta_of(call.meta), call.payload, future, sink)
        self._give(given)
        return self._answered(given, future)

    def _begin_call(self, call: Call, sink: LogSink, then: Callable[[Answer], None]) -> None:
        self._give(Given(meta_of(call.meta), call.payload, Then(then), sink))

    def _give(self, given: Given) -> None:
        if self._alive:
            self._expect(given)
            self._hand_over()
        else:
            self._give_up(given, started=False)

    def _expect(self, given: Given) -> None:
        """It is the next that the process is to be given."""
        self._given, self._taken = given, False

    async def _answered(self, given: Given, future: asyncio.Future[Answer]) -> Answer:
        try:
            return await future
        finally:
            if self._given is given and not given.future.done():  # the caller did not wait for it
                self._given = None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._lost()
        self._becoming.close()
        self._log.close()
        if self._grace is not None:
            self._grace.cancel()
        self._left(self)

    def signal(self, number: int) -> None:
        self._child.signal(number)

    def become(self, told: Mapping[str, Any]) -> None:
        """Tell the child what it is to become. Raises OSError."""
        self._becoming.tell(told)

    # What the process does ---------------------------------------------------------------------------------------------
    def ask(self, take: Take) -> None:
        """It wants an invocation, which `take` gets when there is one; None when there will be no more. Raises NotAllowed."""
        again = self.runtime.next()
        self._has_loaded()
        if again:
            take(self._given)
            return
        if not self._alive:
            take(None)
            return
        before, self._asking = self._asking, take
        if before is not None:
            before(None)  # whoever asked before is gone, or has two minds
        self._hand_over()

    def _has_loaded(self) -> None:
        """It says so by what it does; what it wrote before that was loading's."""
        self._log.drain()
        if self._init_ms is None:
            self._log.flush()
            self._init_ms = (self._loop.time() - self._began_s) * 1000

    def flush(self) -> None:
        """What was written before an answer is read before it."""
        self._log.drain()
        self._log.flush()

    def forget(self, take: Take) -> None:
        """Who asked with this is gone, or ends: its question is answered with None, unless it was answered before."""
        if self._asking is take:
            self._asking = None
            take(None)

    @property
    def running(self) -> str:
        """The id of the invocation that the process was given last and has not answered, or ""."""
        return self._given.id if self._given is not None and self._taken else ""

    def answering(self, invocation: str) -> Answering | None:
        """What an answer with this id is to; None: to nothing. The states come first: who answers twice is told so."""
        return None if invocation != self.running and self.runtime.state is State.RUNNING else self

    def move(self, to: State) -> None:
        """It begins to answer. Raises NotAllowed."""
        self.runtime.move(to)

    def answer(self, answer: Answer) -> None:
        """Its answer is whole, or, for one that streams, begins."""
        self.flush()
        given, self._given = self._given, None
        if isinstance(answer.body, bytes):
            self.runtime.move(State.SENT)
        if given is not None and not given.future.done():
            init_ms = None if self._init_told else self._init_ms
            self._init_told = True
            given.future.set_result(
                Answer(ending=answer.ending, meta=answer.meta, body=answer.body, started=True, init_ms=init_ms)
            )

    def streamed(self) -> None:
        """An answer that streamed is whole, or broken."""
        self.flush()
        self.runtime.move(State.SENT)

    def init_failed(self, body: bytes, error_type: str) -> None:
        """Loading failed, as it says itself. Raises NotAllowed."""
        self.runtime.move(State.INIT_ERROR)
        self._has_loaded()
        self._failed = Answer(ending=Ending.INIT_ERROR, meta={"error_type": error_type}, body=body, init_ms=self._init_ms)
        self._lost()

    def _hand_over(self) -> None:
        """When there are both a call and somebody who asks for one."""
        asking, given = self._asking, self._given
        if asking is None or given is None or self._taken:
            return
        self._asking = None
        self._taken = True
        self.runtime.move(State.RUNNING)
        asking(given)

    # Its beginning and its end -----------------------------------------------------------------------------------------
    def _not_executed(self, program: str, number: int) -> None:
        self._unexecuted = self._complaint(program, number)
        self._lost()

    def _refuse(self, given: Given) -> None:
        """In the place of a program that there is none of."""
        message = f"RequestId: {given.id} Error: {self._unexecuted}"
        given.sink(f"{message}\nRuntime.InvalidEntrypoint\n", None)
        body = json.dumps({"errorType": "Runtime.InvalidEntrypoint", "errorMessage": message}).encode()
        meta = {"error_type": "Runtime.InvalidEntrypoint"}
        given.future.set_result(Answer(ending=Ending.INIT_ERROR, meta=meta, body=body))

    def _exited(self, _: asyncio.Task[int]) -> None:
        if self._alive:  # an answer of its may be under way still
            self._grace = self._loop.call_later(LAST_WORDS_S, self._lost)

    def _lost(self) -> None:
        """The process is gone, or as good as gone."""
        self._alive = False
        self.flush()
        asking, self._asking = self._asking, None
        if asking is not None:
            asking(None)
        given, self._given = self._given, None
        if given is not None:
            self._give_up(given, started=self._taken or self._init_ms is None)

    def _give_up(self, given: Given, *, started: bool) -> None:
        """Answer in the place of a process that does not any more.

        `started`: it was given the call, or was loading; who dies while loading would die again.
        """
        if given.future.done():
            return
        if self._failed is not None:
            given.future.set_result(self._failed)
        elif self._unexecuted:
            self._refuse(given)
        else:
            given.future.set_result(Answer(ending=Ending.DEAD, started=started))

    def _line(self, text: str, at_ms: int | None) -> None:
        """To the call that the process was given, else to the environment."""
        if self._given is not None and self._taken:
            self._given.sink(text, at_ms)
        else:
            self._sink(text, at_ms)


class Streamed(AsyncIterator[bytes]):
    """An answer's body as the process sends it, at its reader's pace. `over` is done once it has ended, in whichever way."""

    def __init__(self, chunks: AsyncIterator[bytes], check: Callable[[], None]) -> None:
        """`check` is called behind the last chunk, and raises when the process says that its answer is broken."""
        self._chunks = chunks
        self._check = check
        self._bytes = 0
        self._thrown = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end()
            self._check()
            raise
        except BaseException as error:
            self._end()
            raise Unavailable("the function's answer ended before it was complete") from error
        self._bytes += len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Read no more; what still comes is thrown away, so that the process is not left waiting."""
        try:
            async for _ in self._chunks:
                pass
        except Exception as error:
            log.info("an answer that nobody reads broke off: %s", error)
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


def too_large() -> Answer:
    """In the place of an answer of more than RESULT_BYTES_MAX bytes."""
    return Answer(ending=Ending.TOO_LARGE, meta={"too_large": RESULT_BYTES_MAX})
