"""Who a request comes from: its signature read, its key looked up, and, once the body's hash is known, verified.

Both planes use it: the front for the calls it serves itself, the desk for all others. With `--open` nobody is asked for a key;
the account is the node's and the region that of the credential scope, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from msgspec import Struct

from ondol.clock import Clock
from ondol.dialects.aws import sigv4
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Request
from ondol.model.principals import AccessKey, Kind, Principal


class Claimed(Struct, frozen=True):
    """A request's claim with the key it names. Nothing is proven until `verify` returns."""

    principal: Principal
    claim: sigv4.Claim | None
    secret: str

    def verify(self, body_sha256: str) -> Principal:
        """Who asks, proven. `body_sha256`: lower-case hex. Raises ServiceError."""
        if self.claim is not None:
            self.claim.verify(self.secret, body_sha256)
        return self.principal

    def verify_body(self, body: bytes) -> Principal:
        """The same for a body that is whole."""
        if self.claim is not None:
            self.claim.verify_body(self.secret, body)
        return self.principal

    def __repr__(self) -> str:
        return f"Claimed(principal={self.principal!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Reads claims and looks their keys up."""

    keys: Callable[[str], AccessKey | None]
    credentials: Credentials
    clock: Clock
    #: The account and region of requests nobody signed, with `open`.
    account: str
    region: str
    open: bool = False
    #: The environment that a request comes from ("ACCOUNT/ID"), or "" when it comes from anywhere else.
    caller: Callable[[Request], str] = lambda _request: ""

    def claim(self, request: Request, service: str) -> Claimed:
        """The claim of a request to `service`. Raises ServiceError; cheap, and needs no body."""
        now_s = self.clock.wall_s()
        caller = self.caller(request)
        if self.open and not caller:  # an environment is known by its socket, and is no stranger who may be taken for the owner
            return self._anybody(request)
        claim = sigv4.read(request.method, request.target, request.headers, now_s, request.index())
        if claim is None:
            raise sigv4.missing()
        if claim.service != service:
            message = f"Credential should be scoped to correct service: '{service}'. "
            raise ServiceError("InvalidSignatureException", message, status=403)
        secret, principal = self._holder(claim, now_s)
        if caller and not _may_come_from(caller, principal):
            raise sigv4.unknown_key()
        return Claimed(principal, claim, secret)

    def owner_of(self, access_key_id: str, region: str) -> tuple[str, Principal] | None:
        """(secret, principal) of an account's own key, where requests are asked for one; None for any other."""
        key = None if self.open else self.keys(access_key_id)
        if key is None or key.kind is not Kind.OWNER:
            return None
        return key.secret, owner(key.account, region, key.id)

    def _holder(self, claim: sigv4.Claim, now_s: float) -> tuple[str, Principal]:
        if claim.token:
            found = self.credentials.lookup(claim.access_key_id, claim.token, now_s=now_s)
            if found is None:
                raise sigv4.unknown_key()
            secret, principal = found
            if principal.region != claim.region:  # a function may talk to another region than its own
                principal = replace(principal, region=claim.region)
            return secret, principal
        key = self.keys(claim.access_key_id)
        if key is None:
            raise sigv4.unknown_key()
        if key.kind is Kind.OWNER:  # not given: an Enum's hash is a function in Python
            return key.secret, owner(key.account, claim.region, key.id)
        return key.secret, owner(key.account, claim.region, key.id, key.kind)

    def _anybody(self, request: Request) -> Claimed:
        region = sigv4.region_of(request.target, request.headers) or self.region
        return Claimed(owner(self.account, region, "open"), None, "")


def _may_come_from(caller: str, principal: Principal) -> bool:
    """An environment's socket takes its own session, and keys of its account that its code was given; no other's."""
    account, _, environment = caller.partition("/")
    if principal.account != account:
        return False
    return principal.kind is not Kind.FUNCTION or principal.environment == environment


@lru_cache(maxsize=1024)
def owner(account: str, region: str, name: str, kind: Kind = Kind.OWNER) -> Principal:
    """The holder of an account's key; the same object for each of its calls."""
    return Principal(kind=kind, account=account, region=region, name=name)
