"""The front's half of the line to the desk: the catalog's index follows, logs and deferred calls go over.

The front serves on from memory while the desk is away, and takes a new snapshot when it is back. `ready` is set once the first
snapshot is in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ondol.core.catalog import Index
from ondol.model.errors import Unavailable
from ondol.node.link import Handler, Link
from ondol.store import Change, Document

RECONNECT_S: Final = 0.1

log = logging.getLogger(__name__)

#: Opens a connection to the desk with the given protocol; raises OSError while it is away.
Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]]


class Following:
    """Keeps one link to the desk alive. `run` answers the desk's calls to run a deferred invocation."""

    def __init__(self, connect: Connect, index: Index, run: Handler) -> None:
        self._connect = connect
        self._index = index
        self._handlers: dict[str, Handler] = {"change": self._changed, "run": run}
        self._link: Link | None = None
        self.ready = asyncio.Event()

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
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
            finally:
                self._link = None
                protocol.close()

    async def call(self, name: str, value: Any) -> Any:
        if self._link is None:
            raise Unavailable("the node's control plane is being restarted; try again in a moment")
        return await self._link.call(name, value)

    def cast(self, name: str, value: Any) -> bool:
        return self._link is not None and self._link.cast(name, value)

    async def _open(self, link: Link) -> None:
        number, documents = await link.call("follow", self._index.number)
        known = set(self._index.documents())
        for key, value, revision in documents:
            known.discard(key)
            if self._index.revision_of(key) != revision:
                self._index.apply(Change(revision, key, value))
        for key in known:
            self._index.apply(Change(number, key, None))
        self._index.number = number
        self._link = link
        link.cast("have", number)
        self.ready.set()

    async def _changed(self, link: Link, value: Any) -> None:
        for number, key, document in value:
            self._index.apply(Change(number, key, document))
        link.cast("have", self._index.number)


class Followers:
    """The desk's half: every front that follows, and how far each has come."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers | {"follow": self._follow, "have": self._have}
        self._number = 0
        #: The catalog as it stands: a snapshot is answered without a pause in which a change could slip by.
        self._documents: dict[str, Document] = {}
        self._links: dict[Link, int] = {}
        self._moved = asyncio.Event()

    def link(self) -> Link:
        """A protocol for one accepted connection."""
        return Link(self._handlers, self._lost)

    def load(self, number: int, documents: Sequence[Document]) -> None:
        """Start from the store's snapshot."""
        self._number = number
        self._documents = {document.key: document for document in documents}

    def changed(self, changes: Sequence[Change]) -> None:
        """Pass committed changes on, in order."""
        self._number = max(self._number, changes[-1].number)
        for change in changes:
            if change.value is None:
                self._documents.pop(change.key, None)
            else:
                self._documents[change.key] = Document(change.key, change.value, change.number)
        value = [(change.number, change.key, change.value) for change in changes]
        for link in self._links:
            link.cast("change", value)

    async def have(self, number: int, seconds_max: float = 2.0) -> None:
        """Wait until every front that follows has change `number`.

        A front that does not answer in time is cut off, for it must not serve what is no longer true.
        """
        end_s = asyncio.get_running_loop().time() + seconds_max
        while late := [link for link, at in self._links.items() if at < number]:
            self._moved.clear()
            try:
                async with asyncio.timeout_at(end_s):
                    await self._moved.wait()
            except TimeoutError:
                for link in late:
                    log.warning("a front did not follow the catalog within %s s: cutting it off", seconds_max)
                    link.close()
                return

    async def run(self, value: Any) -> Any:
        """Have a front run a deferred invocation. Raises Unavailable while there is none."""
        for link in self._links:
            return await link.call("run", value)
        raise Unavailable("no front is there to run it")

    def close(self) -> None:
        for link in list(self._links):
            link.close()

    async def _follow(self, link: Link, since: int) -> Any:
        del since  # a whole snapshot is cheap; asking for the difference is left for when it is not
        self._links[link] = 0
        return self._number, [(d.key, d.value, d.revision) for d in self._documents.values()]

    async def _have(self, link: Link, number: int) -> None:
        if link in self._links:
            self._links[link] = max(number, self._links[link])
            self._moved.set()

    def _lost(self, link: Link) -> None:
        self._links.pop(link, None)
        self._moved.set()
