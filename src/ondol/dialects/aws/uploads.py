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


class Uploads:
    """Spools archives below `spool`, a directory that is emptied at start."""

    def __init__(self, deployments: Deployments, spool: Path) -> None:
        self._deployments = deployments
        self._spool = spool

    async def take(self, source: Mapping[str, Any], *, account: str, region: str) -> Code:
        """The code that `source` (ZipFile, S3Bucket …) holds. Raises ServiceError."""
        data = source.get("ZipFile")
        if data is None and source.get("S3Bucket"):
            raise refusals.not_built("code from S3", "Send the archive itself as ZipFile (up to 50 MB zipped).")
        if data is None:
            raise refusals.invalid("Please provide a source for function code.")
        if not data:
            raise refusals.invalid("Uploaded file must be a non-empty zip")
        if len(data) > CODE_ZIPPED_BYTES_MAX:
            raise refusals.too_large(f"Zipped size must be smaller than {CODE_ZIPPED_BYTES_MAX} bytes")
        if stored_bytes(self._deployments, account, region) + len(data) > CODE_STORAGE_BYTES_MAX:
            raise refusals.storage_exceeded()
        archive = self._spool / f"upload-{secrets.token_hex(8)}.zip"
        try:
            await asyncio.to_thread(_write, archive, data)
            return await self._take(archive)
        finally:
            archive.unlink(missing_ok=True)

    async def _take(self, archive: Path) -> Code:
        try:
            return await self._deployments.take(archive)
        except InvalidCode as error:
            text = "Could not unzip uploaded file. Please check your file, then try to upload again."
            raise refusals.invalid(text) from error
        except TooLarge as error:
            if error.limit_bytes == CODE_ZIPPED_BYTES_MAX:
                raise refusals.too_large(f"Zipped size must be smaller than {error.limit_bytes} bytes") from error
            raise refusals.invalid(f"Unzipped size must be smaller than {error.limit_bytes} bytes") from error


def stored_bytes(deployments: Deployments, account: str, region: str) -> int:
    """What all versions of an account's functions and layers come to, as the service counts it."""
    index = deployments.index
    layers: int = sum(item.value["CodeSize"] for item in index.items(DIALECT, LAYER_VERSION, account, region))
    return layers + index.stored_bytes(account, region)


def _write(path: Path, data: bytes) -> None:
    with explained(path):
        path.write_bytes(data)
