"""Small work of the front that belongs to no room of its own: what the pool is told, and what is warmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.core.pins import bounds, wanted
from ondol.model.errors import OndolError
from ondol.model.functions import Configuration, Function, Revision
from ondol.model.principals import Kind, Principal
from ondol.pool.driver import Pool
from ondol.sandbox import with_modules, without_modules

#: How long a call may wait for a place in the pool.
WAIT_S_MAX: Final = 60.0
#: How long what runs in a shell may keep a connection open and say nothing: longer than a call can take.
SILENT_S_MAX: Final = 1000.0
#: How long the last log lines may take to the desk at the end.
FLUSH_S_MAX: Final = 0.5

#: How long the node says that it is starting while what functions need comes up.
WARM_S_MAX: Final = 5.0

#: Kinds of documents that say what is to be kept up.
_PINNING: Final = frozenset({"pin", "function", "version", "alias", "revision"})

log = logging.getLogger(__name__)


class Minter(Protocol):
    """What makes session credentials."""

    def mint(self, principal: Principal, *, now_s: float) -> Any: ...


class Interpreting(Protocol):
    """An interpreter."""

    @property
    def path(self) -> str: ...


class Choosing(Protocol):
    """What knows which interpreter runs a runtime, or starts what does."""

    def carrier(self, runtime: str) -> Interpreting | None: ...

    def newest(self) -> Interpreting | None: ...


def minting(credentials: Minter, clock: Clock) -> Callable[[Revision, str], tuple[str, str, str]]:
    """Scoped session credentials for one environment of a revision: (id, secret, token)."""

    def mint(revision: Revision, environment: str) -> tuple[str, str, str]:
        role = next((str(a["Role"]) for a in revision.configuration.annotations.values() if a.get("Role")), "")
        principal = Principal(
            kind=Kind.FUNCTION,
            account=revision.account,
            region=revision.region,
            name=revision.function,
            role=role,
            environment=environment,
        )
        made = credentials.mint(principal, now_s=clock.wall_s())
        return made.access_key_id, made.secret, made.session_token

    return mint


def interpreting(choice: Choosing, ahead: Callable[[Revision], str]) -> Callable[[Revision], str]:
    """The interpreter whose zygote brings up a revision, with the modules that are imported `ahead` of it."""

    def path_of(revision: Revision) -> str:
        interpreter = choice.carrier(revision.configuration.runtime)
        return with_modules(interpreter.path, ahead(revision)) if interpreter else ""

    return path_of


def gauges(pool: Pool) -> dict[str, float]:
    """The pool at this moment, for whoever watches the node."""
    stats = pool.stats()
    return {
        "starting": stats.starting,
        "idle": stats.idle,
        "busy": stats.busy,
        "stopping": stats.stopping,
        "frozen": stats.frozen,
        "waiting": stats.waiting,
        "memory_mib": stats.memory_mib,
        "memory_mib_max": stats.memory_mib_max,
        "failed_starts": stats.failed_starts,
    }


def pinning(pool: Pool, index: Index, fronts: int) -> Callable[[str, Any], None]:
    """A listener of the catalog: what is to be kept up follows pins, and what their qualifiers mean.

    Each front keeps its part, rounded up: with none at a front, calls that come to it would be cold.
    """
    due: list[asyncio.Handle] = []

    def listen(key: str, _noun: Any) -> None:
        kind = key.partition("/")[0]
        if kind in _PINNING and not due and (kind == "pin" or index.pins()):
            due.append(asyncio.get_running_loop().call_soon(follow))  # once for many changes

    def follow() -> None:
        due.clear()
        pool.bound({revision: (noun, -(-most // fronts)) for revision, (noun, most) in bounds(index).items()})
        pool.pin({revision: (noun, -(-count // fronts)) for revision, (noun, count) in wanted(index).items()})

    return listen


def retiring(pool: Pool, index: Index) -> Callable[[str, Any], None]:
    """A listener of the catalog: revisions that nothing names any more leave the pool; what replaces one is started ahead."""
    latest: dict[str, str] = {}
    #: By function: the revision that was replaced last. It is removed next, which the pool knows already.
    replaced: dict[str, str] = {}

    def listen(key: str, noun: Any) -> None:
        kind, *parts = key.split("/")
        if kind == "function":
            before = latest.pop(parts[-1], None)
            if isinstance(noun, Function):
                latest[noun.id] = noun.latest
            if before is not None and before != (noun.latest if noun else None):
                succeed(before, noun)
        elif kind == "revision" and noun is None:
            if replaced.get(parts[0]) == parts[-1]:
                del replaced[parts[0]]
            else:
                pool.retire(parts[-1])

    def succeed(before: str, function: Function | None) -> None:
        revision = index.revision(function.id, function.latest) if function is not None else None
        if function is None or revision is None or function.versions_only:
            pool.retire(before)
            return
        pool.replace(before, revision, function.concurrency_reserved)
        replaced[function.id] = before

    return listen


class Stocking(Protocol):
    """What keeps shells ready."""

    async def stock(self, account: str, interpreter: str, network: str, told: bytes) -> None: ...


class Warmer:
    """Keeps ready what functions will ask for: a zygote, and shells with its children, per account, interpreter, network and
    what children are told `ahead`. `networks`: what there is, the default first.

    `ready` is set once the catalog is in and what it needs is up, or WARM_S_MAX later: the first call then finds a warm floor.
    `listen` is a listener of the catalog: what a new function needs is started while its deploy is still under way.
    """

    def __init__(
        self,
        sandboxes: Stocking,
        choice: Choosing,
        networks: Sequence[str],
        *,
        account: str,
        runtime: str,
        ahead: Callable[[Configuration], bytes] = lambda _: b"",
        modules: Callable[[Revision], str] = lambda _: "",
    ) -> None:
        self._sandboxes = sandboxes
        self._modules = modules
        self._choice = choice
        self._networks = networks
        self._ahead = ahead
        self._wanted: dict[tuple[str, str, str, bytes], None] = {}
        self._woken = asyncio.Event()
        self.ready = asyncio.Event()
        self._want(account, runtime)

    def listen(self, _key: str, noun: Any) -> None:
        if isinstance(noun, Revision):
            configuration, modules = noun.configuration, self._modules(noun)
            told = self._ahead(configuration)
            self._want(noun.account, configuration.runtime, configuration.network, told, modules)

    async def serve(self, catalog: asyncio.Event) -> None:
        """Until cancelled."""
        await catalog.wait()
        try:
            async with asyncio.timeout(WARM_S_MAX):
                await self._warm([kind for kind in self._wanted if not without_modules(kind[1])[1]])
        except TimeoutError:
            log.warning("not everything that functions need was up within %s s of the start", WARM_S_MAX)
        self.ready.set()  # what imports more takes longer, and nobody needs to wait for it
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._warm(list(self._wanted))

    def _want(self, account: str, runtime: str, network: str = "", told: bytes = b"", modules: str = "") -> None:
        interpreter = self._choice.carrier(runtime) or self._choice.newest()
        network = network or self._networks[0]
        if interpreter is None or network not in self._networks:
            return
        kind = account, with_modules(interpreter.path, modules), network, told
        if kind not in self._wanted:
            self._wanted[kind] = None
            self._woken.set()

    async def _warm(self, kinds: Sequence[tuple[str, str, str, bytes]]) -> None:
        for account, path, network, told in kinds:
            try:
                await self._sandboxes.stock(account, path, network, told)
            except OndolError as error:
                log.warning("%s could not be warmed ahead: %s", path, error)
