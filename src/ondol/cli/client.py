"""What the command line says to a node: the AWS API through boto3, and the node's own API through a signed request.

The own API is JSON at `/ondol/v1` (docs/reference/native-api.md), signed like the AWS APIs, for the service "ondol". Failures
of either become `Failure`s with the node's own sentence.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from ondol.cli.node import CONNECT_S_MAX, Node, unreachable
from ondol.cli.shape import Exit, Failure

if TYPE_CHECKING:
    import urllib3

Result = TypeVar("Result")

SERVICE = "ondol"
#: The longest a function may run, and some.
READ_S_MAX = 930.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
#: As many things as a page of a list may have.
PAGE_MAX = 1000


def aws(node: Node, service: str) -> Any:
    """A boto3 client that talks to `node` and reads nobody's profile."""
    from botocore.config import Config

    return _session().create_client(
        service,
        region_name=node.region,
        endpoint_url=node.endpoint,
        aws_access_key_id=node.access_key_id,
        aws_secret_access_key=node.secret,
        aws_session_token=node.session_token,
        config=Config(
            connect_timeout=CONNECT_S_MAX,
            read_timeout=READ_S_MAX,
            # A second try of an invocation would be a second invocation.
            retries={"total_max_attempts": 1},
            proxies={},
            # A node with a private name is not asked for host prefixes.
            inject_host_prefix=False,
        ),
    )


@functools.cache
def _session() -> Any:
    """Keeps the service models, which take longer to load than most calls take."""
    import botocore.session

    nothing = (None, None, os.devnull, None)
    return botocore.session.Session(
        session_vars={"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing}
    )


def preload(service: str) -> None:
    """Have everything for `aws` in memory, while something else is waited for."""
    aws(Node(endpoint="http://127.0.0.1:1", access_key_id="-", secret="-", account="", region="us-east-1"), service)  # noqa: S106  # signs nothing


def ask(node: Node, call: Callable[..., Result], **arguments: Any) -> Result:
    """One call of a boto3 client; its errors become sentences."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionClosedError,
        EndpointConnectionError,
        HTTPClientError,
        ParamValidationError,
    )

    try:
        return call(**arguments)
    except ClientError as error:
        raise refusal(error) from None
    except ParamValidationError as error:
        raise Failure(Exit.USAGE, f"the request is not valid: {error.kwargs.get('report', error)}.") from None
    except EndpointConnectionError:
        raise unreachable(node) from None
    except ConnectionClosedError:
        raise Failure(Exit.UNREACHABLE, f"the node at {node.endpoint} closed the connection before it answered.") from None
    except HTTPClientError as error:
        raise Failure(Exit.UNREACHABLE, f"the node at {node.endpoint} cannot be talked to: {error}.") from None
    except BotoCoreError as error:
        raise Failure(Exit.USAGE, f"the request cannot be made: {error}.") from None


def refusal(error: Any) -> Failure:
    """The failure that a botocore ClientError stands for."""
    detail = error.response.get("Error", {})
    return Failure(Exit.REFUSED, f"{detail.get('Code', 'Error')}: {detail.get('Message') or error}")


def is_missing(failure: Failure) -> bool:
    """Whether the node said that there is no such thing."""
    return failure.message.startswith(("ResourceNotFoundException:", "NotFound:"))


class Native:
    """The node's own API."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def functions(self) -> list[dict[str, Any]]:
        """All functions, whichever contract they have."""
        found, after = [], None
        while True:
            page = self._json("GET", "/ondol/v1/functions" + _query({"limit": PAGE_MAX, "after": after}))
            found += page.get("functions", [])
            after = page.get("next")
            if not after:
                return found

    def function(self, name: str) -> dict[str, Any]:
        return self._json("GET", f"/ondol/v1/functions/{quote(name, safe='')}")

    def put(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("PUT", f"/ondol/v1/functions/{quote(name, safe='')}", json.dumps(document).encode())

    def remove(self, name: str) -> None:
        self._json("DELETE", f"/ondol/v1/functions/{quote(name, safe='')}")

    def pins(self, name: str) -> list[dict[str, Any]]:
        """The environments of a function that are to be up."""
        return list(self._json("GET", f"/ondol/v1/functions/{quote(name, safe='')}/pins").get("pins", []))

    def put_pin(self, name: str, qualifier: str, environments: int) -> dict[str, Any]:
        path = f"/ondol/v1/functions/{quote(name, safe='')}/pins/{quote(qualifier, safe='')}"
        return self._json("PUT", path, json.dumps({"environments": environments}).encode())

    def remove_pin(self, name: str, qualifier: str) -> None:
        self._json("DELETE", f"/ondol/v1/functions/{quote(name, safe='')}/pins/{quote(qualifier, safe='')}")

    def events(self, **query: Any) -> dict[str, Any]:
        """A page of deferred calls: `function`, `state`, `limit`, `after`."""
        return self._json("GET", "/ondol/v1/events" + _query(query))

    def event(self, identity: str) -> dict[str, Any]:
        return self._json("GET", f"/ondol/v1/events/{quote(identity, safe='')}")

    def replay_event(self, identity: str) -> None:
        self._json("POST", f"/ondol/v1/events/{quote(identity, safe='')}/replay")

    def remove_event(self, identity: str) -> None:
        self._json("DELETE", f"/ondol/v1/events/{quote(identity, safe='')}")

    def purge_events(self, **query: Any) -> int:
        """How many are gone."""
        return int(self._json("DELETE", "/ondol/v1/events" + _query(query)).get("removed", 0))

    def records(self, **query: Any) -> dict[str, Any]:
        """A page of records: `function`, `status`, `failed`, `since_ms`, `limit`, `after`."""
        return self._json("GET", "/ondol/v1/records" + _query(query))

    def record(self, identity: str) -> list[dict[str, Any]]:
        """Those of one call, newest first."""
        return list(self._json("GET", f"/ondol/v1/records/{quote(identity, safe='')}").get("records", []))

    def fetch(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        """(status, content type, body) of any path of the node."""
        response = self._request(method, path, body, headers or {})
        return response.status, response.headers.get("content-type", ""), response.data

    def stats(self) -> dict[str, Any]:
        """The node's numbers now."""
        return self._json("GET", "/ondol/v1/stats")

    def doctor(self) -> dict[str, Any]:
        """What the node found of its machine."""
        return self._json("GET", "/ondol/v1/doctor")

    def keys(self) -> list[dict[str, Any]]:
        """The account's access keys, without their secrets."""
        return list(self._json("GET", "/ondol/v1/keys").get("keys", []))

    def create_key(self, name: str, *, read_only: bool) -> dict[str, Any]:
        """A new key, with its secret."""
        return self._json("POST", "/ondol/v1/keys", json.dumps({"name": name, "read_only": read_only}).encode())

    def remove_key(self, identity: str) -> None:
        self._json("DELETE", f"/ondol/v1/keys/{quote(identity, safe='')}")

    def _json(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        response = self._request(method, path, body, {"content-type": "application/json"} if body else {})
        try:
            answer = json.loads(response.data) if response.data else {}
        except ValueError:
            answer = {}
        if response.status >= 300:
            raise _refused(response.status, answer, method, path)
        if not isinstance(answer, dict):
            raise Failure(Exit.UNREACHABLE, f"{self._node.endpoint} does not answer as a node does: is it one?")
        return answer

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        import urllib3
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        node = self._node
        signed = AWSRequest(method=method, url=node.endpoint + path, data=body, headers=dict(headers))
        keys = Credentials(node.access_key_id, node.secret, node.session_token)
        SigV4Auth(keys, SERVICE, node.region).add_auth(signed)
        prepared = signed.prepare()
        try:
            with urllib3.PoolManager(retries=False) as pool:
                return pool.request(
                    method,
                    prepared.url,
                    body=body or None,
                    headers={name: _text(value) for name, value in prepared.headers.items()},
                    timeout=urllib3.Timeout(connect=CONNECT_S_MAX, read=READ_S_MAX),
                    redirect=False,
                )
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            raise unreachable(node) from None
        except urllib3.exceptions.HTTPError as error:
            raise Failure(Exit.UNREACHABLE, f"the node at {node.endpoint} cannot be talked to: {error}.") from None


def _query(given: Mapping[str, Any]) -> str:
    """What is given of a query, with its question mark."""
    text = urlencode({name: value for name, value in given.items() if value is not None})
    return f"?{text}" if text else ""


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _refused(status: int, answer: Any, method: str, path: str) -> Failure:
    found = answer if isinstance(answer, dict) else {}
    inner = found.get("error")
    if isinstance(inner, dict):
        found = {**found, **inner}
    message = found.get("message") or found.get("Message") or (inner if isinstance(inner, str) else "")
    message = message or f"the node answered {status} to {method} {path}"
    if status == 404:
        return Failure(Exit.REFUSED, f"NotFound: {message}")
    return Failure(Exit.REFUSED, f"{message}")
