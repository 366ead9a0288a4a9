"""The servers that requests to services go to which Ondol does not serve: which one, and a client of each.

A request goes on as it came, so that a server that knows the key can verify it; what a hop adds is `via`, by which a chain that
comes back is known, and, to the emulator, whose account it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ondol.dialects.aws.service import ServiceError
from ondol.http.client import BadAnswer, HttpClient, Outgoing, Unreachable, end_to_end
from ondol.http.messages import Response

#: Serves all services that no other server is named for.
ANY: Final = ""
#: By this the emulator is told whose request it is; nobody else may say so.
ACCOUNT_HEADER: Final = "x-moto-account-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One of them. `name`: what errors call it; `host`: for requests of our own; `emulator`: it believes who we say asks."""

    name: str
    client: HttpClient
    host: str = "127.0.0.1"
    emulator: bool = False


class Upstreams:
    """`servers`: by the name of the service in a signature's scope, `ANY` for all others. `own`: names this node in `via`."""

    def __init__(self, servers: Mapping[str, Server], own: str) -> None:
        self._servers = servers
        self._own = f"1.1 ondol-{own}"

    def of(self, service: str) -> Server | None:
        return self._servers.get(service) or self._servers.get(ANY)

    async def send(self, server: Server, outgoing: Outgoing, account: str) -> Response:
        """The server's answer. Raises ServiceError where there is none, or where the request has been here before."""
        via = [value for name, value in outgoing.headers if name == "via"]
        if any(self._own in value for value in via):
            text = f"{server.name} sends requests back to this node: set --upstream to a server that answers them itself."
            raise ServiceError("LoopDetected", text, status=508)
        headers = [(name, value) for name, value in outgoing.headers if name not in ("via", ACCOUNT_HEADER)]
        headers.append(("via", ", ".join([*via, self._own])))
        if server.emulator:
            headers.append((ACCOUNT_HEADER, account))
        try:
            response = await server.client.send(replace(outgoing, headers=headers))
        except Unreachable as error:
            text = f"{server.name} cannot be reached: {error}"
            raise ServiceError("ServiceUnavailableException", text, status=503) from error
        except (BadAnswer, TimeoutError) as error:
            text = f"{server.name} broke off: {error}. Look before you send the request again."
            raise ServiceError("ServiceUnavailableException", text, status=502) from error
        response.headers = end_to_end(response.headers)
        return response

    async def close(self) -> None:
        for server in self._servers.values():
            await server.client.close()


def split(given: Sequence[str]) -> dict[str, str]:
    """Service -> address, of "s3=http://…" and "http://…" (all others)."""
    pairs = [each.partition("=") if "=" in each.partition("//")[0] else (ANY, "", each) for each in given]
    return {service: url for service, _, url in pairs}
