"""Who makes the sandboxes of this node's levels, for a front: the keeper, and launchers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from ondol.model.errors import InvalidSetting, StartFailed
from ondol.model.functions import Revision
from ondol.model.isolation import MAKERS, Isolation
from ondol.runtime import Runtime
from ondol.runtimes import executed
from ondol.runtimes.accompanied import Accompanied
from ondol.runtimes.affinity import Affinity
from ondol.runtimes.ahead import imported_ahead
from ondol.runtimes.api import Callers, RuntimeApi, bootstrap
from ondol.runtimes.choice import Choice, Family
from ondol.runtimes.clients import JAVA, RUBY
from ondol.runtimes.dispatch import Dispatch
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.managed import ManagedVersions
from ondol.runtimes.nodejs import ExecutedNodejs, NodejsVersions
from ondol.sandbox import Sandboxes, with_modules
from ondol.sandboxes.kept import KeptSandboxes
from ondol.sandboxes.launched import LaunchedSandboxes, Launcher


class Makers:
    """`lines`: one to each maker, by its name. Make it where an event loop runs."""

    def __init__(
        self,
        lines: Mapping[str, socket.socket],
        isolation: Isolation,
        choice: Choice,
        nodejs: NodejsVersions,
        managed: Mapping[str, ManagedVersions],
        *,
        stock_shells: int,
        memory_mib_max: int,
    ) -> None:
        self._isolation = isolation
        self._choice = choice
        self._nodejs = nodejs
        #: Who calls from shells by the Runtime API.
        self.callers = Callers()
        self._makers: dict[str, KeptSandboxes | Launcher] = {
            name: KeptSandboxes(line, stock_shells=stock_shells, memory_mib_max=memory_mib_max)
            if name == MAKERS["sandbox"]
            else Launcher(line, stock_shells=stock_shells)
            for name, line in lines.items()
        }
        levels = {level: self._level(level) for level in isolation.offered}
        affinity = Affinity()
        self._levels: Mapping[str, tuple[Sandboxes, Runtime]] = {
            level: (sandboxes, runtimes_over(sandboxes, choice, nodejs, managed, self.callers, affinity))
            for level, sandboxes in levels.items()
        }
        #: What functions get that ask for nothing.
        self.usual = levels[isolation.level]

    def sandboxes(self, revision: Revision) -> Sandboxes:
        """Raises StartFailed where the level that it was deployed for is not there any more."""
        return self._of(revision)[0]

    def runtime(self, revision: Revision) -> Runtime:
        return self._of(revision)[1]

    async def inherited_bytes(self, revision: Revision) -> int:
        """The memory that a revision's workers share with what they are forked from, in bytes."""
        runtime = revision.configuration.runtime
        if self._choice.family(runtime) is Family.NODE:
            node = self._nodejs.interpreter(runtime)
            return 0 if node is None else node.shared_bytes
        interpreter = self._choice.interpreter(runtime)
        if interpreter is None:
            return 0
        if revision.configuration.contract == "aws" and executed.why(revision.configuration.variables):
            return 0
        named = with_modules(interpreter.path, imported_ahead(revision))
        return (await self.sandboxes(revision).zygote(revision.account, named)).rss_bytes

    def use(self, name: str, line: socket.socket) -> None:
        """A new line, after its maker was started again."""
        self._makers[name].use(line)

    async def close(self) -> None:
        await asyncio.gather(*(maker.close() for maker in self._makers.values()))

    def _level(self, level: str) -> KeptSandboxes | LaunchedSandboxes:
        maker = self._makers[MAKERS[level]]
        return maker if isinstance(maker, KeptSandboxes) else maker.level(level)

    def _of(self, revision: Revision) -> tuple[Sandboxes, Runtime]:
        asked = revision.configuration.isolation
        try:
            self._isolation.check(asked)
        except InvalidSetting as error:
            raise StartFailed(f"{revision.name} was deployed for isolation {asked!r}: {error}") from error
        return self._levels[self._isolation.of(asked)]


def runtimes_over(  # noqa: PLR0917
    sandboxes: Sandboxes,
    choice: Choice,
    nodejs: NodejsVersions,
    managed: Mapping[str, ManagedVersions],
    callers: Callers,
    affinity: Affinity,
) -> Runtime:
    """All that can be launched in the shells of one level."""
    python = ForkedPython(sandboxes, choice, affinity)
    runtimes = Dispatch(
        choice,
        {
            Family.PYTHON: python,
            Family.COMMAND: python,
            Family.NODE: ExecutedNodejs(sandboxes, choice, nodejs),
            Family.PROVIDED: RuntimeApi(sandboxes, choice, callers, bootstrap),
            Family.JAVA: RuntimeApi(sandboxes, choice, callers, managed[JAVA].program),
            Family.RUBY: RuntimeApi(sandboxes, choice, callers, managed[RUBY].program),
        },
    )
    return Accompanied(runtimes, sandboxes, choice, callers)
