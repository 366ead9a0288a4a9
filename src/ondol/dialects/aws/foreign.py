"""Requests to services of AWS's that Ondol does not serve: who asks is proven, whether they may is weighed, and the request
goes on to the upstream, streaming both ways. Without an upstream the answer says, in the service's own protocol, how to get
one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from ondol.core.permit import permit
from ondol.dialects.aws import errors, foreign_needs, unserved
from ondol.dialects.aws.auth import Claimed, Verifier
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.ids import new_request_id
from ondol.dialects.aws.service import ServiceError
from ondol.dialects.aws.upstreams import Upstreams
from ondol.http.messages import BodyTooLarge, Disconnected, Request, Response
from ondol.http.passing import outgoing
from ondol.http.table import credential
from ondol.model.errors import Denied, OndolError
from ondol.model.principals import Kind, Principal

log = logging.getLogger(__name__)

#: What has to be read before it is believed: every body whose hash does not stand in the head.
WHOLE_BYTES_MAX: Final = 16 * 1024 * 1024
WHOLE_AT_ONCE_MAX: Final = 4
#: The emulator's own controls: they know no account.
CONTROLS: Final = "/moto-api"

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Foreign:
    """Answers what no other row of the table does, but that somebody signed for a service of AWS's."""

    def __init__(self, *, verifier: Verifier, grants: Grants, served: Sequence[str], upstreams: Upstreams) -> None:
        self._verifier = verifier
        self._grants = grants
        self._served = served
        self._upstreams = upstreams
        self._whole = asyncio.Semaphore(WHOLE_AT_ONCE_MAX)

    async def serve(self, request: Request) -> Response:
        """Never raises."""
        request_id, service = new_request_id(), credential(request).scope
        try:
            return await self._serve(request, service)
        except Disconnected:
            return Response(400)
        except ServiceError as error:
            return unserved.answer(request, service, error, request_id)
        except OndolError as error:
            return unserved.answer(request, service, errors.translate(error, request.path), request_id)
        except BodyTooLarge:
            text = f"Request must be smaller than {WHOLE_BYTES_MAX} bytes, or carry its hash in x-amz-content-sha256."
            large = ServiceError("RequestEntityTooLargeException", text, status=413)
            return unserved.answer(request, service, large, request_id)
        except Exception:
            log.exception("request %s failed inside", request_id)
            return unserved.answer(request, service, errors.internal(), request_id)

    async def _serve(self, request: Request, service: str) -> Response:
        claimed = self._verifier.claim(request, service)
        told = request.header("x-amz-content-sha256")
        claim = claimed.claim
        known = claim is None or claim.payload_hash is not None or bool(_HASH.fullmatch(told))
        if service == "s3" and known and "delete" not in request.query:
            claimed.verify(told)
            return await self._passed(request, claimed, service, None)
        async with self._whole:
            body = await request.body.read(WHOLE_BYTES_MAX)
            digest = hashlib.sha256(body).hexdigest()
            claimed.verify(digest)
            return await self._passed(request, claimed, service, body)

    async def _passed(self, request: Request, claimed: Claimed, service: str, body: bytes | None) -> Response:
        """`body`: where it had to be read."""
        who = claimed.principal
        server = self._upstreams.of(service)
        if server is None:
            raise unserved.not_here(request, service, self._served)
        await self._check(request, who, service, body)
        going = outgoing(request)
        if body is not None:
            going = replace(going, body=body, body_bytes=len(body))
        elif claimed.claim is not None and claimed.claim.payload_hash is None:
            going = replace(going, body=checked(request.body.chunks(), request.header("x-amz-content-sha256")))
        return await self._upstreams.send(server, going, who.account)

    async def _check(self, request: Request, who: Principal, service: str, body: bytes | None) -> None:
        """Raise AccessDeniedException unless the caller may."""
        if request.path.startswith(CONTROLS) and who.kind is not Kind.OWNER:
            raise errors.not_authorized(self._grants.arn(who), f"{service}:Reset", request.path[:200])
        if who.kind not in IN_ROLES:
            try:
                permit(who, f"{service}:pass", who.account)
            except Denied as error:
                raise errors.not_authorized(self._grants.arn(who), f"{service}:*") from error
            return
        needed = await asyncio.to_thread(foreign_needs.needs, service, request, body, who.account, who.region)
        for action, resource in needed:
            if not self._grants.may(who, action, resource, who.account):
                why = self._grants.why_not(who, action, resource)
                raise errors.not_authorized(self._grants.arn(who), action, resource, why)


async def checked(chunks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """The body as it comes, its last piece only once the hash that was signed is that of the whole. Raises Disconnected."""
    digest, held = hashlib.sha256(), b""
    async for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != sha256:
        raise Disconnected("the body is not the one that was signed")
    if held:
        yield held
