"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a principal is."""

    OWNER = "owner"  #: holds an access key of the account: may do all in it
    READER = "reader"  #: holds a read-only key of the account: may look at all in it, and neither change nor call
    FUNCTION = "function"  #: a running function with its scoped session token: may what its role says
    SESSION = "session"  #: whoever took on a role for a while: may what the role says
    NODE = "node"  #: the platform itself (queues, triggers)
    ANONYMOUS = "anonymous"  #: nobody known: may nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, and in which account and region."""

    kind: Kind
    account: str
    region: str
    #: Access key id, the function's id, or the session's name.
    name: str
    #: What the principal acts as (a role's name), shown back by identity calls.
    role: str = ""
    #: Which of the roles that ever had this name it is, for a session; "" where that does not matter.
    role_id: str = ""
    #: The environment that it runs in; "" when it is none's.
    environment: str = ""
    #: What a session was narrowed to when it was made: policies, or names of policies, in the words of the dialect that made
    #: it. None of them: it may all that its role may.
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A long-lived key. `secret` never reaches a log, an error or a client."""

    id: str
    secret: str
    account: str
    created_s: float
    #: For people, who tell their keys apart by it.
    name: str = ""
    read_only: bool = False

    @property
    def kind(self) -> Kind:
        """What its holder is."""
        return Kind.READER if self.read_only else Kind.OWNER

    def __repr__(self) -> str:
        return f"AccessKey(id={self.id!r}, account={self.account!r}, read_only={self.read_only!r})"
