"""A log group's file `about`: its name, when it was made, and what its owner decided about it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from ondol.disk import write_whole
from ondol.journal import GroupSettings


class About(msgspec.Struct):
    """The file `about`. Older ones end after the second field."""

    name: str
    created_ms: int
    settings: GroupSettings = GroupSettings()


def read_about(folder: Path) -> About:
    return msgspec.msgpack.decode((folder / "about").read_bytes(), type=About)


def write_about(folder: Path, about: About) -> None:
    write_whole(folder / "about", msgspec.msgpack.encode(about))


def make_group(folder: Path, name: str, now_ms: int, settings: GroupSettings) -> None:
    """The group's directory, there with its name in it or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder.with_name(f".new-{secrets.token_hex(8)}")
    part.mkdir(mode=0o700)
    write_about(part, About(name, now_ms, settings))
    os.rename(part, folder)
