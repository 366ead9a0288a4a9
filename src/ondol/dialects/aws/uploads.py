"""From the archive in a request to code that is kept, or the refusal that Lambda answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ondol.core.deploy import Deployments
from ondol.dialects.aws import refusals
from ondol.dialects.aws.configuration import DIALECT
from ondol.dialects.aws.objects import Objects, without_objects
from ondol.dialects.aws.service import Context
from ondol.disk import explained
from ondol.model.errors import InvalidCode, TooLarge
from ondol.model.functions import Code
from ondol.model.limits import CODE_ZIPPED_BYTES_MAX

#: A URL of this node under which the bearer, for a while, gets an archive.
CodeUrl = Callable[[Code, Context], str]
#: The kind of item that is one version of a layer.
LAYER_VERSION: Final = "layer-version"
CODE_STORAGE_BYTES_MAX: Final = 80_530_636_800
#: What names code that is elsewhere.
_OTHERS: Final = ("S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri")


class Uploads:
    """Spools archives below `spool`, a directory that is emptied at start."""

    def __init__(self, deployments: Deployments, spool: Path, objects: Objects | None) -> None:
        self._deployments = deployments
        self._spool = spool
        self._objects = objects

    async def take(self, context: Context, source: Mapping[str, Any], *, account: str, region: str) -> Code:
        """The code that `source` (ZipFile, S3Bucket …) holds. Raises ServiceError."""
        data, bucket, key = source.get("ZipFile"), source.get("S3Bucket"), source.get("S3Key")
        if data is not None and any(source.get(other) for other in _OTHERS):
            raise refusals.invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        archive = self._spool / f"upload-{secrets.token_hex(8)}.zip"
        if data is None and bucket and key:
            if self._objects is None:
                raise without_objects()
            try:
                await self._objects.fetch(context, bucket, key, source.get("S3ObjectVersion"), archive)
                self._check_room(archive.stat().st_size, account, region)
                return await self._take(archive)
            finally:
                archive.unlink(missing_ok=True)
        if data is None:
            raise refusals.invalid("Please provide a source for function code.")
        if not data:
            raise refusals.invalid("Uploaded file must be a non-empty zip")
        if len(data) > CODE_ZIPPED_BYTES_MAX:
            raise refusals.too_large(f"Zipped size must be smaller than {CODE_ZIPPED_BYTES_MAX} bytes")
        self._check_room(len(data), account, region)
        try:
            await asyncio.to_thread(_write, archive, data)
            return await self._take(archive)
        finally:
            archive.unlink(missing_ok=True)

    def _check_room(self, size: int, account: str, region: str) -> None:
        if stored_bytes(self._deployments, account, region) + size > CODE_STORAGE_BYTES_MAX:
            raise refusals.storage_exceeded()

    async def _take(self, archive: Path) -> Code:
        try:
            return await self._deployments.take(archive)
        except InvalidCode as error:
            text = "Could not unzip uploaded file. Please check your file, then try to upload again."
            raise refusals.invalid(text) from error
        except TooLarge as error:
            raise refusals.invalid(f"Unzipped size must be smaller than {error.limit_bytes} bytes") from error


def stored_bytes(deployments: Deployments, account: str, region: str) -> int:
    """What all versions of an account's functions and layers come to, as the service counts it."""
    index = deployments.index
    layers: int = sum(item.value["CodeSize"] for item in index.items(DIALECT, LAYER_VERSION, account, region))
    return layers + index.stored_bytes(account, region)


def _write(path: Path, data: bytes) -> None:
    with explained(path):
        path.write_bytes(data)
