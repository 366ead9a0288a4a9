"""Archives in S3: read from the upstream into a file, with the authority of who named them, in Lambda's words when it fails."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import unescape

from ondol.clock import Clock
from ondol.core.catalog import Index
from ondol.dialects.aws import refusals, sigv4
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.grants import IN_ROLES, Grants
from ondol.dialects.aws.service import Context, ServiceError
from ondol.dialects.aws.upstreams import Upstreams
from ondol.disk import explained
from ondol.http.client import BadAnswer, Outgoing
from ondol.http.messages import Response
from ondol.model.limits import CODE_UNPACKED_BYTES_MAX
from ondol.model.principals import Principal

#: An archive in S3 may be as large as what it unpacks to.
BYTES_MAX: Final = CODE_UNPACKED_BYTES_MAX
#: From its head to its end.
READ_S_MAX: Final = 300.0
_ERROR_BYTES_MAX: Final = 64 * 1024
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


class Objects:
    """Reads objects of S3."""

    def __init__(self, upstreams: Upstreams, grants: Grants, index: Index, credentials: Credentials, clock: Clock) -> None:
        self._upstreams = upstreams
        self._grants = grants
        self._index = index
        self._credentials = credentials
        self._clock = clock

    async def fetch(self, context: Context, bucket: str, key: str, version: str | None, into: Path) -> None:
        """Write the object to `into`. Raises ServiceError."""
        server = self._upstreams.of("s3")
        if server is None:
            raise without_objects()
        who = context.asker
        action = "s3:GetObjectVersion" if version else "s3:GetObject"
        if who.kind in IN_ROLES and not self._grants.may(who, action, f"arn:aws:s3:::{bucket}/{key}", who.account):
            raise _denied(bucket, key)
        target = f"/{quote(bucket, safe='')}/{quote(key, safe='/-_.~')}"
        outgoing = self._signed(who, server.host, target, f"versionId={quote(version, safe='')}" if version else "")
        try:
            async with asyncio.timeout(READ_S_MAX):
                response = await self._upstreams.send(server, outgoing, who.account)
                if response.status != 200:
                    raise _failed(bucket, key, *await _told(response))
                await _save(response, into)
        except (BadAnswer, TimeoutError) as error:
            raise _error("InternalError", f"{server.name} broke off: {error or 'it took too long'}") from error
        except ServiceError as error:
            if error.code in ("ServiceUnavailableException", "LoopDetected"):
                raise _error("ServiceUnavailable", error.message) from error
            raise

    def _signed(self, who: Principal, host: str, path: str, query: str) -> Outgoing:
        """The request, signed with the asker's own key where it is a lasting one, else with one of a few minutes."""
        now_s = self._clock.wall_s()
        key = self._index.key(who.name)
        if key is not None:
            known, secret, token = key.id, key.secret, ""
        else:
            minted = self._credentials.mint(who, now_s=now_s, lifetime_s=READ_S_MAX)
            known, secret, token = minted.access_key_id, minted.secret, minted.session_token
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        headers = [("host", host), ("x-amz-content-sha256", _EMPTY), ("x-amz-date", stamp)]
        headers += [("x-amz-security-token", token)] if token else []
        signed = ";".join(name for name, _ in headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers)
        canonical = f"GET\n{path}\n{query}\n{lines}\n{signed}\n{_EMPTY}"
        scope = f"{stamp[:8]}/{who.region}/s3/aws4_request"
        text = f"{sigv4.ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(sigv4.signing_key(secret, stamp[:8], who.region, "s3"), text.encode(), "sha256").hex()
        given = f"{sigv4.ALGORITHM} Credential={known}/{scope}, SignedHeaders={signed}, Signature={signature}"
        target = f"{path}?{query}" if query else path
        return Outgoing(method="GET", target=target, headers=[*headers, ("authorization", given)])


def without_objects() -> ServiceError:
    """What is said where nobody serves S3."""
    return refusals.not_built(
        "code from S3 without an S3",
        "Start the node with --upstream URL or --with-emulator, or send the archive itself as ZipFile (up to 50 MB zipped).",
    )


async def _save(response: Response, into: Path) -> None:
    """Raises ServiceError beyond the limit."""
    size = 0
    with explained(into), await asyncio.to_thread(into.open, "wb") as file:
        if isinstance(response.body, bytes):
            await asyncio.to_thread(file.write, response.body)
            return
        async for chunk in response.body:
            size += len(chunk)
            if size > BYTES_MAX:
                await response.body.aclose()  # type: ignore[attr-defined]  # deliveries have it
                raise refusals.too_large(f"Unzipped size must be smaller than {BYTES_MAX} bytes")
            await asyncio.to_thread(file.write, chunk)


async def _told(response: Response) -> tuple[str, str]:
    """(code, message) of an answer that is an error."""
    body = response.body if isinstance(response.body, bytes) else b""
    if not isinstance(response.body, bytes):
        async for chunk in response.body:
            body += chunk
            if len(body) > _ERROR_BYTES_MAX:
                await response.body.aclose()  # type: ignore[attr-defined]  # deliveries have it
                break
    text = body[:_ERROR_BYTES_MAX].decode("utf-8", "replace")
    code, message = (re.search(rf"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message"))
    return (unescape(code[1]) if code else f"Status{response.status}"), (unescape(message[1]) if message else "")


def _failed(bucket: str, key: str, code: str, message: str) -> ServiceError:
    return _denied(bucket, key) if code == "AccessDenied" else _error(code, message)


def _error(code: str, message: str) -> ServiceError:
    return refusals.invalid(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")


def _denied(bucket: str, key: str) -> ServiceError:
    text = (
        "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for "
        f"{bucket}/{key}. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
    )
    return ServiceError("AccessDeniedException", text, status=403, message_key="Message")
