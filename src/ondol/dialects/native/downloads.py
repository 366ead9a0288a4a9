"""Archives for whoever was given a link: `/ondol/v1/code/SHA256.zip?expires=…&signature=…`, without a key, for ten minutes.

The link is the right: its signature covers the archive's name and the time, and is compared in constant time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from ondol.clock import Clock
from ondol.http.messages import Response
from ondol.model.errors import Denied, NotFound
from ondol.model.functions import Code

PATH: Final = "/ondol/v1/code"
LINK_S_MAX: Final = 600
CHUNK_BYTES: Final = 256 * 1024


class LinkQuery(Struct, frozen=True, kw_only=True):
    """What makes a link a right."""

    expires: Annotated[str, Meta(description="seconds since the epoch")] = ""
    signature: str = ""


class Downloads:
    """Makes links and serves them."""

    def __init__(self, secret: bytes, archive: Callable[[str], Path], clock: Clock) -> None:
        self._secret = hmac.digest(secret, b"downloads", "sha256")
        self._archive = archive
        self._clock = clock

    def link(self, code: Code, endpoint: str) -> str:
        """A URL that gives the archive to whoever asks within LINK_S_MAX."""
        expires_s = int(self._clock.wall_s()) + LINK_S_MAX
        return f"{endpoint}{PATH}/{code.sha256}.zip?expires={expires_s}&signature={self._signature(code.sha256, expires_s)}"

    async def linked(self, archive: str, query: LinkQuery) -> Response:
        """The archive that a link means. Raises Denied for a link that is not ours or has expired, NotFound."""
        sha256 = archive.removesuffix(".zip")
        expires = query.expires
        if not (expires.isascii() and expires.isdecimal()) or len(expires) > 12:
            raise Denied("this is no link to an archive; GetFunction gives one")
        if not hmac.compare_digest(query.signature.encode(), self._signature(sha256, int(expires)).encode()):
            raise Denied("this link's signature is not one of ours; GetFunction gives a fresh one")
        if int(expires) < self._clock.wall_s():
            raise Denied("this link has expired; GetFunction gives a fresh one")
        return await self.archive(sha256)

    async def archive(self, sha256: str) -> Response:
        """An archive that is known to be one of ours. Raises NotFound when it is gone."""
        path = self._archive(sha256)
        if not await asyncio.to_thread(path.is_file):
            raise NotFound("code", sha256)
        return Response(200, (("content-type", "application/zip"),), _chunks(path))

    def _signature(self, sha256: str, expires_s: int) -> str:
        return hmac.new(self._secret, f"{sha256}/{expires_s}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
