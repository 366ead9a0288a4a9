"""What the supervisor tells a child first: everything that was decided and found before it was started."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ondol.config import Settings
from ondol.model.isolation import MAKERS, Isolation
from ondol.model.principals import AccessKey
from ondol.sandbox import NETWORK_NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Sent as JSON."""

    settings: Settings
    #: The owner's key, and the bytes that session credentials are derived from.
    key: AccessKey
    secret: bytes
    #: Where functions and clients of this machine reach the node.
    endpoint: str
    #: Inherited listening sockets, by name.
    sockets: dict[str, int]
    #: Found by the supervisor, who sees more of the machine than its children may; as plain values.
    interpreters: list[dict[str, Any]]
    #: What the supervisor found of isolation, as plain values.
    isolation: list[dict[str, Any]] = field(default_factory=list)
    #: What functions may reach, the default first.
    networks: list[str] = field(default_factory=lambda: [NETWORK_NONE])
    #: Which of the fronts this is, from 0.
    front: int = 0
    #: What functions may ask for.
    levels: Isolation = field(default_factory=Isolation)

    def message(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain = msgspec.to_builtins(self, enc_hook=str)
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def of(cls, message: dict[str, Any]) -> Orders:
        return msgspec.convert(message, cls, dec_hook=lambda kind, value: kind(value))

    @property
    def data(self) -> Path:
        return self.settings.data

    @property
    def makers(self) -> set[str]:
        """The processes that make sandboxes."""
        return {MAKERS[level] for level in self.levels.offered}

    def listener(self, name: str) -> socket.socket:
        return socket.socket(fileno=self.sockets[name])
