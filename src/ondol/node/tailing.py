"""Around the logs of functions: the group that a contract writes to, and the end of what is followed live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.contract import Contract, Place
from ondol.model.functions import Revision
from ondol.node.link import Handler, Link

#: A front's word that it is about to drain, on the line between front and desk.
LEAVING: Final = "leaving"


def leaving(close: Callable[[], None]) -> Handler:
    """The desk's answer to "leaving": what goes on for as long as anybody listens ends, or the front would wait for it."""

    async def leave(_link: Link, _value: Any) -> None:
        close()

    return leave


def grouping(contracts: Mapping[str, Contract]) -> Callable[[Revision], str]:
    """The log group that a revision's contract writes to."""
    nowhere = Place(environment="", started_s=0.0, version=None, endpoint="", access_key_id="", secret="", session_token="")

    def group_of(revision: Revision) -> str:
        return contracts[revision.configuration.contract].log_place(revision, nowhere)[0]

    return group_of
