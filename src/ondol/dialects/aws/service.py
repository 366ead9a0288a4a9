"""The seam between the wire (codec, dialect) and the handlers of one service's operations.

A handler gets parsed and validated parameters and returns a result, both keyed by the service model's member names, and says
what went wrong by raising `ServiceError`. It knows nothing of HTTP, XML or JSON; the codec knows nothing of functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ondol.model.principals import Principal

#: How a JSON error body spells its message.
MessageKey = Literal["message", "Message"]


class ServiceError(Exception):
    """An error of the service, as its model names it. `str(error)` is the text that the client reads."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
        message_key: MessageKey | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        #: None: what the service's model says for `code`, else 400.
        self.status = status
        #: More members of the body, such as {"Type": "User"}; they stand in front of the message.
        self.extra = dict(extra or {})
        #: None: as the service's model spells it for `code`, else "message".
        self.message_key: MessageKey | None = message_key
        #: More headers of the answer, such as Retry-After.
        self.headers = headers

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross from the helper process that decodes large bodies."""
        made = partial(
            type(self),
            status=self.status,
            extra=self.extra,
            message_key=self.message_key,
            headers=self.headers,
        )
        return made, (self.code, self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every handler is told about the request besides its parameters."""

    request_id: str
    #: With whose authority the handler runs.
    principal: Principal
    #: Who asked, where that is not `principal`: a caller in a role.
    caller: Principal | None = None
    account: str
    region: str
    #: "http://host:port" as the client reached us.
    endpoint: str

    @property
    def asker(self) -> Principal:
        """Who asked."""
        return self.caller or self.principal


#: Parameters and result are keyed by the model's member names; blobs are bytes, timestamps datetimes or what the shape wants.
Handler = Callable[[Context, dict[str, Any]], Awaitable[dict[str, Any]]]
#: Operation name -> handler; one mapping per service.
Operations = Mapping[str, Handler]
