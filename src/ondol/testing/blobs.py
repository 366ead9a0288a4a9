"""The code port in a directory of the test's, without the checks that hostile archives need."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ondol.blobstores.folder import merged
from ondol.model.errors import InvalidCode, TooLarge
from ondol.model.functions import Code
from ondol.model.limits import CODE_UNPACKED_BYTES_MAX


class DirectoryBlobs:
    """A `Blobs` below `root`. `kept` records what each `keep_only` was asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kept: list[frozenset[str]] = []

    async def take(self, archive: Path) -> Code:
        return self._take(archive)

    def _take(self, archive: Path) -> Code:
        data = archive.read_bytes()
        if len(data) > CODE_UNPACKED_BYTES_MAX:
            raise TooLarge(
                f"the archive has {len(data)} bytes; at most {CODE_UNPACKED_BYTES_MAX} are taken",
                limit_bytes=CODE_UNPACKED_BYTES_MAX,
                actual_bytes=len(data),
            )
        code = hashlib.sha256(data).hexdigest()
        try:
            with zipfile.ZipFile(archive) as opened:
                unpacked_bytes = sum(entry.file_size for entry in opened.infolist())
                if unpacked_bytes > CODE_UNPACKED_BYTES_MAX:
                    raise TooLarge(
                        f"the archive unpacks to {unpacked_bytes} bytes; at most {CODE_UNPACKED_BYTES_MAX} are taken",
                        limit_bytes=CODE_UNPACKED_BYTES_MAX,
                        actual_bytes=unpacked_bytes,
                    )
                opened.extractall(self._root / code / "tree")
        except zipfile.BadZipFile as error:
            raise InvalidCode("the upload is not a zip file") from error
        (self._root / code / "archive.zip").write_bytes(data)
        return Code(sha256=code, zipped_bytes=len(data), unpacked_bytes=unpacked_bytes)

    async def merge(self, codes: Sequence[Code]) -> Code:
        sha256 = hashlib.sha256("\n".join(code.sha256 for code in codes).encode()).hexdigest()
        for code in codes:
            shutil.copytree(self.tree(code), self._root / sha256 / "tree", dirs_exist_ok=True)
        return merged(sha256, codes)

    def tree(self, code: Code) -> Path:
        return self._root / code.sha256 / "tree"

    def archive(self, code: Code) -> Path:
        return self._root / code.sha256 / "archive.zip"

    async def keep_only(self, sha256s: frozenset[str]) -> int:
        """Age does not count here: tests have no hour."""
        self.kept.append(sha256s)
        gone = [path for path in self._root.iterdir() if path.name not in sha256s]
        for path in gone:
            shutil.rmtree(path)
        return len(gone)
