"""Invoke without a coroutine, for a request that says nothing but who it is from, which function, and the event.

A client's requests differ in event, time and signature, and in little else. What the rest means (the door that they come by,
the key, the function and its revision) is worked out once for a target, a Host and what the Authorization header says in front
of its signature, and remembered until the catalog changes. Everything that is unusual or wrong is left to `AwsFront.serve`,
which knows what to say: this module answers what it takes, and takes nothing that it may have to refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ondol.core.catalog import Index
from ondol.core.prompt import Prompt
from ondol.dialects.aws import errors, invoke, sigv4
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.ids import new_request_id
from ondol.dialects.aws.service import ServiceError
from ondol.http.messages import Reply, Request
from ondol.http.table import Route
from ondol.model.errors import OndolError
from ondol.model.functions import Target
from ondol.model.invocations import Invocation, Outcome
from ondol.model.principals import Principal

#: Headers that make a call unlike others, or a request of a page's.
_UNUSUAL: Final = invoke.SELDOM | {"origin", "sec-fetch-site", "x-amz-security-token"}
_TRACED: Final = frozenset({"x-amzn-trace-id", "traceparent"})
#: So many kinds of requests are remembered, none of which is longer.
_KNOWN_MAX: Final = 4096
_KEY_CHARS_MAX: Final = 1024

log = logging.getLogger(__name__)


class _Known(Struct, eq=False):
    """What requests of one kind have in common."""

    #: What the catalog's index counted when this was worked out.
    changes: int
    usual: sigv4.Usual
    #: Of the key's secret.
    states: bytes
    principal: Principal
    named: invoke.Plain
    target: Target


class PromptInvoke:
    """See the module. `leads_to`: the route that the node's door has for a request, None where it refuses it."""

    def __init__(
        self, *, verifier: Verifier, index: Index, prompt: Prompt, leads_to: Callable[[Request], Route | None]
    ) -> None:
        self._verifier = verifier
        self._index = index
        self._prompt = prompt
        self._leads_to = leads_to
        self._known: dict[tuple[str, str, str], _Known] = {}

    def __call__(self, request: Request, reply: Reply) -> bool:
        """`ondol.http.messages.Prompt`."""
        values = request.index()
        authorization = values.get("authorization")
        if authorization is None or request.method != "POST" or not _UNUSUAL.isdisjoint(values):
            return False
        key = (request.target, values.get("host", ""), authorization[:-64])
        known = self._known.get(key)
        if known is None or known.changes != self._index.changes:
            known = self._learn(request, key)
            if known is None:
                return False
        body = request.body.buffered
        if body is None or not invoke.is_event(body):
            return False
        if not sigv4.holds(known.usual, known.states, request, body, self._verifier.clock.wall_s()):
            return False
        return self._begin(request, known, body, reply)

    def _begin(self, request: Request, known: _Known, body: bytes, reply: Reply) -> bool:
        invocation = Invocation(
            id=new_request_id(),
            function=known.target.function.id,
            qualifier=None,
            principal=known.principal,
            payload=body or b"{}",
            context=known.named.context,
            trace=invoke.trace_of("") if _TRACED.isdisjoint(request.index()) else invoke.trace_asked(request),
        )

        def over(outcome: Outcome | Exception) -> None:
            if isinstance(outcome, Exception):
                reply(errors.render_known(self._in_words(outcome, known, invocation.id), invocation.id))
            else:
                reply(invoke.rendered(outcome, invocation))

        return self._prompt.begin(invocation, known.target, over)

    def _in_words(self, error: Exception, known: _Known, request_id: str) -> ServiceError:
        if isinstance(error, OndolError):
            return errors.translate(error, known.named.arn)
        log.error("request %s failed inside", request_id, exc_info=error)
        return errors.internal()

    def _learn(self, request: Request, key: tuple[str, str, str]) -> _Known | None:
        """What a request of this kind means, if nothing about it is unusual."""
        self._known.pop(key, None)
        if sum(map(len, key)) > _KEY_CHARS_MAX:  # nothing is proven yet: anybody may send it
            return None
        route = self._leads_to(request)
        usual = sigv4.usual_of(key[2])
        if route is None or route.name != "invoke" or usual is None or usual.service != "lambda":
            return None
        holder = self._verifier.owner_of(usual.access_key_id, usual.region)
        if holder is None:
            return None
        secret, principal = holder
        try:
            named = invoke.plain(request, principal)
        except ServiceError:
            return None
        function = named and self._index.handle(invoke.DIALECT, named.named.account, named.named.region, named.named.name)
        target = self._prompt.target_of(function, principal) if function else None
        states = sigv4.states_of(usual, secret)
        if named is None or target is None or states is None:
            return None
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        known = self._known[key] = _Known(self._index.changes, usual, states, principal, named, target)
        return known
