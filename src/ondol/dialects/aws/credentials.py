"""Temporary credentials of functions: minted when an environment starts, verified without a table.

The session token carries who it is for and until when, sealed with an HMAC of the node's master secret; the access key id is
derived from the sealed words and the secret key from the access key id. So a node can verify what it minted before a restart,
nothing grows, and to change the master secret is to revoke them all. The policies that narrow a session travel in it too,
packed: kept beside it they would have to be found by every front and forgotten when it expires. Pure; constant-time compares.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from ondol.dialects.aws.service import ServiceError
from ondol.model.principals import Kind, Principal

#: A function's credentials outlive its longest environment, not by much.
LIFETIME_S = 12 * 3600
#: As long as AWS's may be.
TOKEN_CHARS_MAX = 4096
MASTER_BYTES_MIN = 32

_PREFIX = "ASIA"
_VERSION = 1
_SEAL_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A set of temporary credentials."""

    access_key_id: str
    secret: str
    session_token: str
    expires_s: float

    def __repr__(self) -> str:
        return f"Minted(access_key_id={self.access_key_id!r}, expires_s={self.expires_s!r})"


#: What tokens of older releases do not say: the environment, the role's id, the scope.
_UNSAID: tuple[Any, ...] = ("", "", b"")


def _packed(scope: tuple[str, ...]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(scope), 9) if scope else b""


def _unpacked(scope: bytes) -> tuple[str, ...]:
    """Only of what was sealed: a stranger's bytes could unpack to any size."""
    return msgspec.msgpack.decode(zlib.decompress(scope), type=tuple[str, ...]) if scope else ()


class Credentials:
    """Mints and looks up, with one master secret."""

    def __init__(self, master: bytes) -> None:
        if len(master) < MASTER_BYTES_MIN:
            raise ValueError(f"a master secret has at least {MASTER_BYTES_MIN} bytes, this one has {len(master)}")
        self._master = master
        self._opened = lru_cache(maxsize=4096)(self._open)

    def mint(self, principal: Principal, *, now_s: float, lifetime_s: float = LIFETIME_S) -> Minted:
        """Credentials with which their holder is `principal` until they expire. Raises PackedPolicyTooLargeException."""
        expires_s = int(now_s + lifetime_s)
        words = msgspec.msgpack.encode(
            [
                _VERSION,
                principal.kind.value,
                principal.account,
                principal.region,
                principal.name,
                principal.role,
                expires_s,
                principal.environment,
                principal.role_id,
                _packed(principal.scope),
            ]
        )
        token = base64.b64encode(words + self._derived(b"seal", words)).decode()
        if len(token) > TOKEN_CHARS_MAX:
            message = (
                f"The session token would have {len(token)} bytes, and may have {TOKEN_CHARS_MAX}. Pass shorter session "
                "policies, or fewer."
            )
            raise ServiceError("PackedPolicyTooLargeException", message)
        access_key_id = self._access_key_id(words)
        return Minted(
            access_key_id=access_key_id,
            secret=self._secret(access_key_id),
            session_token=token,
            expires_s=expires_s,
        )

    def lookup(self, access_key_id: str, token: str, *, now_s: float) -> tuple[str, Principal] | None:
        """(secret, principal) of a session; None where the two were not minted here. Raises ExpiredTokenException."""
        opened = self._opened(access_key_id, token)
        if opened is None:
            return None
        secret, principal, expires_s = opened
        if now_s >= expires_s:
            message = "The security token included in the request is expired"
            raise ServiceError("ExpiredTokenException", message, status=403)
        return secret, principal

    def _open(self, access_key_id: str, token: str) -> tuple[str, Principal, int] | None:
        if len(token) > TOKEN_CHARS_MAX:
            return None
        try:
            sealed = base64.b64decode(token.encode("latin-1"), validate=True)
        except (binascii.Error, ValueError):
            return None
        words, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._derived(b"seal", words)):
            return None
        if not hmac.compare_digest(access_key_id.encode("latin-1", "replace"), self._access_key_id(words).encode()):
            return None
        said: list[Any] = msgspec.msgpack.decode(words)
        _, kind, account, region, name, role, expires_s, *rest = said
        environment, role_id, scope = (*rest, *_UNSAID[len(rest) :])
        principal = Principal(
            kind=Kind(kind), account=account, region=region, name=name, role=role, environment=environment, role_id=role_id,
            scope=_unpacked(scope),
        )  # fmt: skip
        return self._secret(access_key_id), principal, expires_s

    def _access_key_id(self, words: bytes) -> str:
        return _PREFIX + base64.b32encode(self._derived(b"id", words)[:10]).decode()

    def _secret(self, access_key_id: str) -> str:
        return base64.b64encode(self._derived(b"secret", access_key_id.encode())[:30]).decode()

    def _derived(self, purpose: bytes, data: bytes) -> bytes:
        return hmac.digest(self._master, purpose + b"\0" + data, hashlib.sha256)
