"""What all environments of a node are made with: the ports of the pool, and a few functions that know the rest of the node."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ondol.clock import Clock
from ondol.contract import Contract
from ondol.model.errors import StartFailed
from ondol.model.functions import Code, Revision
from ondol.runtime import Launch, Runtime
from ondol.sandbox import NETWORK_NONE, Sandboxes, without_modules
from ondol.telemetry import Telemetry


class Answering(Protocol):
    """Answers at the listening sockets of shells."""

    def hang(self, listener: int, name: str) -> None:
        """Take over the descriptor; what comes by it comes from `name`."""
        ...

    def take_down(self, name: str) -> None:
        """No more of that. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Makings:
    """What all environments of a node are made with."""

    #: Which sandboxes this revision's environments get. Raises StartFailed.
    sandboxes: Callable[[Revision], Sandboxes]
    runtimes: Callable[[Revision], Runtime]
    contracts: Mapping[str, Contract]
    telemetry: Telemetry
    clock: Clock
    #: (access key id, secret, session token) for one environment of this revision.
    mint: Callable[[Revision, str], tuple[str, str, str]]
    #: The node's address as functions reach it that have the machine's network.
    endpoint: str
    #: What answers the others.
    answering: Answering | None
    #: What a revision's environments can reach, one of `ondol.sandbox`'s.
    network: Callable[[Revision], str]
    #: Where a code's unpacked tree is.
    tree_of: Callable[[Code], str]
    #: Bytes of memory that a worker of this revision shares with what it was forked from.
    inherited_bytes: Callable[[Revision], Awaitable[int]]
    #: Absolute path of the interpreter that runs this revision, or "".
    interpreter: Callable[[Revision], str]
    #: What a child that waits for an environment of this revision is told ahead; b"" for nothing.
    ahead: Callable[[Revision], bytes]
    #: What really runs this revision, when it differs from what was asked.
    substitute: Callable[[Revision], str | None]
    #: 32 hex digits, new each time.
    new_id: Callable[[], str]


def launch_of(
    revision: Revision, guest: str, variables: Mapping[str, str], *, caller: str, attached: Awaitable[None] | None
) -> Launch:
    """What a worker of this revision is told; see `Launch`."""
    configuration = revision.configuration
    return Launch(
        guest=guest,
        handler=configuration.handler,
        runtime=configuration.runtime,
        variables=variables,
        memory_mib=configuration.memory_mib,
        timeout_s=configuration.timeout_s,
        calls_max=max(configuration.concurrency, 1),
        own=configuration.variables,
        extensions=configuration.opt.extensions if configuration.opt is not None else (),
        caller=caller,
        attached=attached,
    )


def opt_tree(revision: Revision, makings: Makings) -> str:
    """What is shown at /opt, or "". Raises StartFailed where the interpreter itself is there and would be covered."""
    opt, interpreter = revision.configuration.opt, makings.interpreter(revision)
    if opt is None:
        return ""
    if os.path.realpath(without_modules(interpreter)[0]).startswith("/opt/"):
        raise StartFailed(
            f"the function's layers are shown at /opt, and would cover its interpreter {interpreter}; "
            "install that elsewhere, below /usr for example"
        )
    return makings.tree_of(opt)


# Where somebody does not care -----------------------------------------------------------------------------------------
async def inherits_nothing(_: Revision) -> int:
    return 0


def nothing(_: Revision) -> bytes:
    return b""


def whichever(_: Revision) -> str:
    return ""


def no_network(_: Revision) -> str:
    return NETWORK_NONE


def as_asked(_: Revision) -> str | None:
    return None


def random_id() -> str:
    return os.urandom(16).hex()
