"""Finding a node and its keys: what `ondol env` prints and every other client command starts from.

A node writes `run/node.json` (where it listens) and `credentials.json` (its first key, readable by its owner only) into its
data directory. What the user says wins: an option, then the AWS variables, then the data directory.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ondol import config
from ondol.cli.shape import Exit, Failure

CONNECT_S_MAX = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as a client sees it."""

    endpoint: str
    access_key_id: str
    secret: str
    account: str
    region: str
    session_token: str | None = None
    #: Where all this was read, for messages.
    source: str = ""

    def __repr__(self) -> str:
        return f"Node({self.endpoint!r}, access_key_id={self.access_key_id!r})"

    def variables(self) -> dict[str, str]:
        """What the AWS clients read."""
        found = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            # Older clients read only this one.
            "AWS_DEFAULT_REGION": self.region,
            # A node has one name: "stream-127.0.0.1" for live logs would lead nowhere.
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }
        if self.session_token:
            found["AWS_SESSION_TOKEN"] = self.session_token
        return found


def find(where: str | None = None, environ: Mapping[str, str] | None = None) -> Node:
    """The node that `--node` names (a directory or an address), else the variables', else the data directory's."""
    environ = os.environ if environ is None else environ
    settings = config.load(environ=environ)
    if where and "://" in where:
        return _addressed(where.rstrip("/"), settings, environ, "--node")
    if where:
        return of_directory(Path(where), settings)
    if environ.get("AWS_ENDPOINT_URL"):
        return _addressed(environ["AWS_ENDPOINT_URL"].rstrip("/"), settings, environ, "AWS_ENDPOINT_URL")
    return of_directory(settings.data, settings)


def of_directory(data: Path, settings: config.Settings) -> Node:
    """The node that keeps its data in `data`. Raises Failure when there is none."""
    facts = _read(data / "run" / "node.json", f"no node runs with its data in {data}: start one with 'ondol up'")
    keys = _read(data / "credentials.json", f"{data} has no credentials.json: start the node once with 'ondol up'")
    return Node(
        endpoint=str(facts.get("endpoint", settings.url)),
        access_key_id=str(keys.get("access_key_id", "")),
        secret=str(keys.get("secret_access_key", "")),
        account=str(facts.get("account", settings.account)),
        region=str(facts.get("region", settings.region)),
        source=str(data),
    )


def _addressed(endpoint: str, settings: config.Settings, environ: Mapping[str, str], source: str) -> Node:
    """An address without keys borrows those of the data directory, if that is whose address it is."""
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not (key and secret):
        keys = _read(
            settings.data / "credentials.json",
            f"{source} names {endpoint}, but AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
        )
        key, secret = str(keys.get("access_key_id", "")), str(keys.get("secret_access_key", ""))
    return Node(
        endpoint=endpoint,
        access_key_id=key,
        secret=secret,
        account=settings.account,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or settings.region,
        session_token=environ.get("AWS_SESSION_TOKEN"),
        source=source,
    )


def _read(path: Path, when_absent: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Failure(Exit.UNREACHABLE, f"{when_absent}.") from None
    except PermissionError:
        raise Failure(
            Exit.REFUSED, f"{path} may be read by its owner only: run ondol as the user who started the node."
        ) from None
    except (OSError, ValueError) as error:
        raise Failure(Exit.UNREACHABLE, f"{path} cannot be read ({error}): start the node again with 'ondol up'.") from None
    if not isinstance(found, dict):
        raise Failure(Exit.UNREACHABLE, f"{path} is not what a node writes: start the node again with 'ondol up'.")
    return found


def unreachable(node: Node) -> Failure:
    return Failure(Exit.UNREACHABLE, f"no node answers at {node.endpoint} (from {node.source}): start one with 'ondol up'.")


def listens(endpoint: str, timeout_s: float = CONNECT_S_MAX) -> bool:
    """Whether something takes connections there."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
