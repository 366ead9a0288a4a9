"""The front's half of the line to the desk: the catalog's index follows, logs and deferred calls go over.

The front serves on from memory while the desk is away, and takes a new snapshot when it is back. `ready` is set once the first
snapshot is in. A snapshot comes in pieces: a front that starts takes each up as it comes, while the desk makes its own index of
the same documents; one that serves already takes them up together, so that no call sees half of it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from ondol.core.catalog import Index
from ondol.model.errors import Unavailable
from ondol.node.link import Handler, Link
from ondol.node.serving import uncollected
from ondol.store import Change, Document, Packed, packed

RECONNECT_S: Final = 0.1
#: How long the desk may take over a call; it writes to the disk, and no more.
ANSWER_S_MAX: Final = 30.0
#: How long a change waits for a front to take it up, or to come back, before it is in force without that front.
FOLLOW_S_MAX: Final = 2.0
#: Documents of a snapshot in one message.
PIECE_DOCUMENTS: Final = 1000

log = logging.getLogger(__name__)

#: Opens a connection to the desk with the given protocol; raises OSError while it is away.
Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]]


class Following:
    """Keeps one link to the desk alive. `answers`: to what the desk calls and casts, besides changes of the catalog.

    `opened` is awaited with each new link once the catalog is in, and may raise Unavailable; `tries` says which deferred calls
    this front has: (id, attempt).
    """

    def __init__(
        self,
        connect: Connect,
        index: Index,
        answers: Mapping[str, Handler],
        *,
        opened: Callable[[Link], Awaitable[None]] | None = None,
        tries: Callable[[], Sequence[tuple[str, int]]] = tuple,
    ) -> None:
        self._connect = connect
        self._index = index
        self._opened = opened
        self._tries = tries
        self._handlers: dict[str, Handler] = {"change": self._changed, "documents": self._arrived, **answers}
        self._link: Link | None = None
        #: While a snapshot comes: the keys that it has shown to be there still, and what waits to be taken up with the rest.
        self._found: set[str] = set()
        self._held: list[Sequence[Any]] = []
        self._closing = False
        self.ready = asyncio.Event()

    async def serve(self) -> None:
        """Until cancelled, or `flushed`."""
        while not self._closing:
            try:
                _transport, protocol = await self._connect(lambda: Link(self._handlers))
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            assert isinstance(protocol, Link)
            try:
                await self._open(protocol)
                await protocol.lost
            except Unavailable:
                log.info("the desk went away while it was being asked for the catalog")
                await asyncio.sleep(RECONNECT_S)
            finally:
                self._link = None
                protocol.close()

    async def call(self, name: str, value: Any) -> Any:
        """The desk's answer. Raises what it raised, and Unavailable without one: it may have done what it was asked, then."""
        if self._link is None:
            raise Unavailable("the node's control plane is being restarted; try again in a moment")
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await self._link.call(name, value)
        except TimeoutError:
            message = f"the node's control plane did not answer within {ANSWER_S_MAX:.0f} s; look before you try again"
            raise Unavailable(message) from None

    def cast(self, name: str, value: Any) -> bool:
        return self._link is not None and self._link.cast(name, value)

    async def flushed(self, seconds_max: float) -> None:
        """At the end: close the line once what was sent is out."""
        self._closing = True
        link = self._link
        if link is not None:
            link.close()
            await asyncio.wait([link.lost], timeout=seconds_max)

    async def _open(self, link: Link) -> None:
        self._found, self._held = set(), []
        number = await link.call("follow", self._tries())
        self._take_up(self._held)
        for key in set(self._index.documents()) - self._found:
            self._index.apply(Change(number, key, None))
        self._found, self._held = set(), []
        self._index.number = number
        self._link = link
        link.cast("have", number)
        self.ready.set()
        if self._opened is not None:
            await self._opened(link)

    async def _arrived(self, _link: Link, value: Any) -> None:
        if self.ready.is_set():
            self._held += value
        else:
            self._take_up(value)

    async def _changed(self, link: Link, value: Any) -> None:
        if self._link is None:
            await self._arrived(link, value)  # of its snapshot, as far as it is in
            return
        for number, key, document in value:
            self._index.apply(Change(number, key, document))
        link.cast("have", self._index.number)

    def _take_up(self, changes: Sequence[Sequence[Any]]) -> None:
        with uncollected():
            for number, key, document in changes:
                if document is None:
                    self._found.discard(key)
                else:
                    self._found.add(key)
                if self._index.revision_of(key) != number:
                    self._index.apply(Change(number, key, document))


class Followers:
    """The desk's half: every front that follows, and how far each has come."""

    def __init__(self, handlers: dict[str, Handler], seconds_max: float = FOLLOW_S_MAX, *, fronts: int = 1) -> None:
        self._seconds_max = seconds_max
        self._fronts = fronts
        #: A front is on its way: at the start, and after one was lost. Until it is here, it may serve what it knew before.
        self._awaited = True
        #: Called with each link that is lost.
        self.listeners: list[Callable[[Link], None]] = []
        #: Until when all fronts are waited for before deferred calls begin: one of them may be running already.
        self._joining_until_s = 0.0
        #: Deferred calls under way by link, and who has which: also from before this desk.
        self._runs: Counter[Link] = Counter()
        self._tries: dict[tuple[str, int], Link] = {}
        self._handlers = handlers | {"follow": self._follow, "have": self._have}
        self._number = 0
        #: The catalog as it stands, which a front is sent without a pause in which a change could slip by: by key, or, where
        #: somebody else has it in hand, whom to ask for it.
        self._documents: dict[str, Packed] = {}
        self._standing: Callable[[], Iterable[Packed]] | None = None
        self._links: dict[Link, int] = {}
        self._moved = asyncio.Event()
        self._whole = asyncio.Event()
        self._whole.set()

    def hold(self) -> None:
        """Give fronts their snapshots from now on, but not the word that they have all, until `release`."""
        self._whole.clear()

    def release(self) -> None:
        self._whole.set()

    def answer(self, name: str, handler: Handler) -> None:
        """One more message of the fronts'; before the first of them is here."""
        self._handlers[name] = handler

    def link(self) -> Link:
        """A protocol for one accepted connection."""
        return Link(self._handlers, self._lost)

    def load(self, number: int, documents: Sequence[Document | Packed]) -> None:
        """Start from the store's snapshot."""
        self._number = number
        self._documents = {document.key: packed(document) for document in documents}
        self._standing = None

    def lean(self, standing: Callable[[], Iterable[Packed]]) -> None:
        """Hold no documents from now on: who comes is sent what `standing` says then. It knows of a change before `changed`."""
        self._documents, self._standing = {}, standing

    def changed(self, changes: Sequence[Change]) -> None:
        """Pass committed changes on, in order."""
        self._number = max(self._number, changes[-1].number)
        for change in changes if self._standing is None else ():
            if change.value is None:
                self._documents.pop(change.key, None)
            else:
                data = change.value if isinstance(change.value, bytes) else msgspec.msgpack.encode(change.value)
                self._documents[change.key] = Packed(change.key, data, change.number)
        value = [(change.number, change.key, change.value) for change in changes]
        for link in list(self._links):
            if not link.cast("change", value):
                self._cut_off(link)  # it missed this one: only a new snapshot helps

    async def have(self, number: int) -> None:
        """Wait until every front has change `number`.

        A front that does not answer in time is cut off, so that it takes a new snapshot; for that it is given as long again.
        """
        end_s = asyncio.get_running_loop().time() + self._seconds_max
        again = True
        while self._late(number) or (self._awaited and len(self._links) < self._fronts):
            self._moved.clear()
            try:
                async with asyncio.timeout_at(end_s):
                    await self._moved.wait()
            except TimeoutError:
                late = self._late(number)
                for link in late:
                    self._cut_off(link)
                if not late or not again:
                    self._awaited = False
                    return
                again = False
                end_s += self._seconds_max

    async def followed(self) -> None:
        """Return when there is a front; at first, when all of them are there, but then after `seconds_max` at the latest."""
        now_s = asyncio.get_running_loop().time
        self._joining_until_s = self._joining_until_s or now_s() + self._seconds_max
        while not self._links or (len(self._links) < self._fronts and now_s() < self._joining_until_s):
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._joining_until_s if self._links else None):
                    await self._moved.wait()

    async def run(self, value: Any) -> Any:
        """Have a front run a deferred invocation: the one that has it already, else the least busy.

        Raises Unavailable while there is none.
        """
        key = (value[0]["id"], value[0]["attempts"])
        link = self._tries.get(key) or min(self._links, key=self._runs.__getitem__, default=None)
        if link is None:
            raise Unavailable("no front is there to run it")
        self._tries[key] = link
        self._runs[link] += 1
        try:
            return await link.call("run", value)
        finally:
            self._runs[link] -= 1
            if not self._runs[link]:
                del self._runs[link]
            self._tries.pop(key, None)

    async def ask(self, name: str, value: Any, seconds_max: float) -> list[Any]:
        """What each front answers; those that do not within `seconds_max`, or fail, are left out."""
        asked = [asyncio.create_task(link.call(name, value)) for link in self._links]
        if not asked:
            return []
        done, late = await asyncio.wait(asked, timeout=seconds_max)
        for task in late:
            task.cancel()
        return [task.result() for task in asked if task in done and task.exception() is None]

    def close(self) -> None:
        for link in list(self._links):
            link.close()

    def _late(self, number: int) -> list[Link]:
        return [link for link, at in self._links.items() if at < number]

    def _cut_off(self, link: Link) -> None:
        log.warning("a front did not follow the catalog within %s s: cutting it off", self._seconds_max)
        self._lost(link)
        link.abort()

    async def _follow(self, link: Link, tries: Sequence[Sequence[Any]]) -> Any:
        """A whole snapshot is cheap; asking for the difference is left for when it is not."""
        self._links[link] = 0
        self._tries.update(((event, attempt), link) for event, attempt in tries)
        self._moved.set()
        documents = iter(self._documents.values() if self._standing is None else self._standing())
        while piece := [(d.revision, d.key, d.data) for d in itertools.islice(documents, PIECE_DOCUMENTS)]:
            link.send("documents", piece)
        await self._whole.wait()
        return self._number

    async def _have(self, link: Link, number: int) -> None:
        if link in self._links:
            self._links[link] = max(number, self._links[link])
            self._awaited = self._awaited and len(self._links) < self._fronts
            self._moved.set()

    def _lost(self, link: Link) -> None:
        if self._links.pop(link, None) is not None:
            self._awaited = True
            self._tries = {key: its for key, its in self._tries.items() if its is not link}
            for listener in self.listeners:
                listener(link)
        self._moved.set()
