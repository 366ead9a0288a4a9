"""What every `ondol.blobs.Blobs` does. Give the fixtures `blobs` and `visible`: the names of all blobs that can be seen."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ondol.blobs import Blobs
from ondol.model.errors import InvalidCode, TooLarge


def archive_of(path: Path, files: dict[str, str | bytes], *, modes: dict[str, int] | None = None) -> Path:
    """A zip file at `path`; a mode with a type of its own makes a link or a directory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = ((modes or {}).get(name, 0o644) or 0) << 16
            archive.writestr(entry, content)
    return path


class BlobsSuite:
    """An archive becomes a tree, whole or not at all."""

    async def test_an_archive_becomes_a_tree(self, blobs: Blobs, tmp_path: Path) -> None:
        path = archive_of(tmp_path / "a.zip", {"app.py": "x = 1\n", "deep/er/data.bin": bytes(range(256)) * 999})
        code = await blobs.take(path)
        data = path.read_bytes()
        assert code.sha256 == hashlib.sha256(data).hexdigest()
        assert (code.zipped_bytes, code.unpacked_bytes) == (len(data), 6 + 256 * 999)
        assert (blobs.tree(code) / "app.py").read_text() == "x = 1\n"
        assert (blobs.tree(code) / "deep/er/data.bin").read_bytes() == bytes(range(256)) * 999
        assert blobs.archive(code).read_bytes() == data

    async def test_the_same_archive_is_one_blob(self, blobs: Blobs, visible: Callable[[], set[str]], tmp_path: Path) -> None:
        path = archive_of(tmp_path / "a.zip", {"app.py": "x = 1\n"})
        codes = await asyncio.gather(*(blobs.take(path) for _ in range(3)))
        assert len(set(codes)) == 1
        assert visible() == {codes[0].sha256}

    async def test_trees_are_merged_and_the_later_one_wins(self, blobs: Blobs, tmp_path: Path) -> None:
        first = await blobs.take(archive_of(tmp_path / "a.zip", {"bin/run": "1", "only/first": "1", "turns/file": "1"}))
        second = await blobs.take(archive_of(tmp_path / "b.zip", {"bin/run": "2", "only/second": "2", "turns": "2"}))
        merged = await blobs.merge([first, second])
        tree = blobs.tree(merged)
        found = {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()}
        assert found == {"bin/run": "2", "only/first": "1", "only/second": "2", "turns": "2"}
        assert merged.unpacked_bytes == first.unpacked_bytes + second.unpacked_bytes
        assert await blobs.merge([first, second]) == merged
        other = await blobs.merge([second, first])
        assert other.sha256 != merged.sha256
        assert (blobs.tree(other) / "bin/run").read_text() == "1"
        assert (blobs.tree(other) / "turns/file").read_text() == "1"
        assert (blobs.tree(first) / "bin/run").read_text() == "1", "what was merged is as it was"

    async def test_nothing_is_merged_through_a_link(self, blobs: Blobs, tmp_path: Path) -> None:
        links = {"place": stat.S_IFLNK | 0o777}
        first = await blobs.take(archive_of(tmp_path / "a.zip", {"real/file": "1", "place": "real"}, modes=links))
        second = await blobs.take(archive_of(tmp_path / "b.zip", {"place/file": "2"}))
        tree = blobs.tree(await blobs.merge([first, second]))
        assert (tree / "real/file").read_text() == "1"
        assert (tree / "place/file").read_text() == "2"

    async def test_modes_and_links_are_kept(self, blobs: Blobs, tmp_path: Path) -> None:
        files: dict[str, str | bytes] = {"bin/run": "#!/bin/sh\n", "app.py": "", "secret": "", "plain": ""}
        modes = {"bin/run": stat.S_IFREG | 0o755, "app.py": 0o640, "secret": stat.S_IFREG | 0o4700, "plain": 0}
        modes["now"] = stat.S_IFLNK | 0o777
        code = await blobs.take(archive_of(tmp_path / "a.zip", {**files, "now": "bin/run"}, modes=modes))
        tree = blobs.tree(code)
        found = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in files}
        assert found == {"bin/run": 0o755, "app.py": 0o644, "secret": 0o755, "plain": 0o644}
        assert os.readlink(tree / "now") == "bin/run"
        assert stat.S_IMODE((tree / "bin").stat().st_mode) == 0o755

    @pytest.mark.parametrize(
        "data",
        [b"", b"not a zip", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(100)],
        ids=["empty", "text", "no entries", "no end"],
    )
    async def test_what_is_no_archive_is_refused(
        self, blobs: Blobs, visible: Callable[[], set[str]], tmp_path: Path, data: bytes
    ) -> None:
        path = tmp_path / "a.zip"
        path.write_bytes(data)
        with pytest.raises(InvalidCode):
            await blobs.take(path)
        assert visible() == set()

    async def test_a_bomb_is_refused_before_it_is_written(
        self, blobs: Blobs, visible: Callable[[], set[str]], tmp_path: Path
    ) -> None:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for n in range(3):
                with archive.open(f"{n}", "w") as file:
                    for _ in range(90):
                        file.write(bytes(1024 * 1024))
        path = tmp_path / "a.zip"
        path.write_bytes(made.getvalue())
        with pytest.raises(TooLarge, match="Unzipped size must be smaller than 262144000 bytes"):
            await blobs.take(path)
        assert visible() == set()

    async def test_an_upload_over_the_limit_is_refused(
        self, blobs: Blobs, visible: Callable[[], set[str]], tmp_path: Path
    ) -> None:
        path = tmp_path / "a.zip"
        with path.open("wb") as file:
            file.truncate(262_144_001)
        with pytest.raises(TooLarge) as refused:
            await blobs.take(path)
        assert refused.value.limit_bytes == 262_144_000
        assert visible() == set()

    async def test_a_young_blob_is_kept_even_if_nobody_names_it_yet(self, blobs: Blobs, tmp_path: Path) -> None:
        code = await blobs.take(archive_of(tmp_path / "a.zip", {"app.py": ""}))
        assert await blobs.keep_only(frozenset()) == 0
        assert blobs.tree(code).is_dir()


def sleep(*, seconds: float) -> None:
    """A job for tests of whoever runs jobs."""
    time.sleep(seconds)


def echo(*, body: bytes) -> bytes:
    """Another."""
    return body
