"""Who asks, for the dialects that are not AWS's: `ondol.dialect.Gatekeeper` by signature, bearer key or X-Ondol-Key.

A bearer key is `ID:SECRET`, compared in constant time. A signed request whose body is streamed (`body_sha256` None) must carry
the hash it signed in x-amz-content-sha256; then the head is proven, and the body is not.
"""

from __future__ import annotations

import hmac

from ondol.clock import Clock
from ondol.dialects.aws.auth import Claimed, Verifier
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Request
from ondol.model.errors import Denied
from ondol.model.principals import Kind, Principal


class Gate:
    """See the module."""

    def __init__(self, verifier: Verifier, service: str, clock: Clock) -> None:
        self._verifier = verifier
        self._service = service
        self._clock = clock

    def vet(self, request: Request) -> bool:
        """Whether somebody asks who may turn out to be right. Raises Denied for credentials that are wrong already."""
        return self._asks(request) is not None

    def principal(self, request: Request, body_sha256: str | None) -> Principal:
        """Raises Denied for credentials that are wrong."""
        verifier = self._verifier
        asks = self._asks(request)
        if asks is None:
            return Principal(kind=Kind.ANONYMOUS, account=verifier.account, region=verifier.region, name="anonymous")
        if isinstance(asks, Principal):
            return asks
        try:
            return asks.verify(body_sha256 or request.header("x-amz-content-sha256"))
        except ServiceError as error:
            raise Denied(f"{error.code}: {error.message}") from None

    def _asks(self, request: Request) -> Principal | Claimed | None:
        """The holder of a bearer key, proven; a signer, not yet; or nobody."""
        verifier = self._verifier
        scheme, _, rest = request.header("authorization").partition(" ")
        given = request.header("x-ondol-key") or (rest.strip() if scheme.lower() == "bearer" else "")
        if given and not verifier.open:
            return self._bearer(given)
        if verifier.open or scheme == "AWS4-HMAC-SHA256" or "X-Amz-Signature=" in request.query:
            try:
                return verifier.claim(request, self._service)
            except ServiceError as error:
                raise Denied(f"{error.code}: {error.message}") from None
        return None

    def _bearer(self, given: str) -> Principal:
        key_id, _, secret = given.partition(":")
        key = self._verifier.keys(key_id)
        # The comparison costs the same whether or not there is such a key.
        right = hmac.compare_digest(secret.encode(), (key.secret if key else "").encode())
        if key is None or not right or not secret:
            raise Denied("this key is not one of the node's (`ondol env` prints the first): expected ID:SECRET")
        return Principal(kind=key.kind, account=key.account, region=self._verifier.region, name=key.id)
