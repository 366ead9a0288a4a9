"""The node's secrets: made at first start, readable by their owner only, shown to nobody else.

`credentials.json` holds the owner's first access key, for clients on this machine; `secret` the bytes from which functions'
session credentials are derived. Neither is ever logged.
"""

from __future__ import annotations

import json
import os
import secrets
import string
from pathlib import Path
from typing import Final

from ondol.disk import explained, write_whole
from ondol.model.errors import Unavailable
from ondol.model.principals import AccessKey

SECRET_BYTES: Final = 32
_ID_LETTERS: Final = string.ascii_uppercase + "234567"


def owner_key(data: Path, account: str, created_s: float) -> AccessKey:
    """The owner's key, made if there is none. Raises Unavailable for a file that is not what this wrote."""
    path = data / "credentials.json"
    try:
        found = json.loads(path.read_bytes())
        key = AccessKey(
            id=found["access_key_id"], secret=found["secret_access_key"], account=found["account"], created_s=found["created_s"]
        )
        if not all(isinstance(part, str) and part for part in (key.id, key.secret, key.account)):
            raise ValueError  # an empty secret would let in whoever knows the id
        return key
    except FileNotFoundError:
        key_id, secret = fresh_pair()
        key = AccessKey(id=key_id, secret=secret, account=account, created_s=created_s)
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"{path} is not a key that Ondol wrote: move it away, and a new one is made") from None
    document = {
        "access_key_id": key.id,
        "secret_access_key": key.secret,
        "account": key.account,
        "created_s": key.created_s,
    }
    with explained(path):
        write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
    return key


def fresh_pair() -> tuple[str, str]:
    """The id and the secret of a new key."""
    return "AKIA" + "".join(secrets.choice(_ID_LETTERS) for _ in range(16)), secrets.token_urlsafe(30)


def master_secret(data: Path) -> bytes:
    """The bytes that session credentials are derived from, made if there are none."""
    path = data / "secret"
    with explained(path):
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            found = secrets.token_bytes(SECRET_BYTES)
            write_whole(path, found)
    if len(found) != SECRET_BYTES:
        raise Unavailable(f"{path} has {len(found)} bytes, {SECRET_BYTES} are expected: move it away, and a new one is made")
    return found


def own(paths: list[Path], owner: tuple[int, int] | None) -> None:
    """Give files to the unprivileged processes that read them."""
    for path in paths:
        if owner is not None:
            os.chown(path, *owner, follow_symlinks=False)
