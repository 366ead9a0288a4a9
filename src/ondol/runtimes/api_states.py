"""What one runtime that speaks the Runtime API may do when: a table, and a move or a refusal. Pure.

    Started ─next─> Ready ─an invocation is there─> Running ─response─> InvocationResponse ──┐ the body
       │              ^                              │   └───error───> InvocationErrorResponse ┤ is whole
       │              │                              └─next: the same invocation again         v
       └─init error─> │ InitError                                          RuntimeResponseSentState
                      └────────────────────────────next────────────────────────────┘

Names and texts are those of the documented system.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where a runtime is; the values are what it is told."""

    STARTED = "Started"
    INIT_ERROR = "InitError"
    READY = "Ready"  #: waits for an invocation
    RUNNING = "Running"
    RESPONSE = "InvocationResponse"  #: its answer is being read
    ERROR_RESPONSE = "InvocationErrorResponse"
    SENT = "RuntimeResponseSentState"


_MOVES: Final[frozenset[tuple[State, State]]] = frozenset(
    (
        (State.STARTED, State.READY),
        (State.STARTED, State.INIT_ERROR),
        (State.READY, State.READY),
        (State.READY, State.RUNNING),
        (State.RUNNING, State.RUNNING),
        (State.RUNNING, State.RESPONSE),
        (State.RUNNING, State.ERROR_RESPONSE),
        (State.RESPONSE, State.SENT),
        (State.ERROR_RESPONSE, State.SENT),
        (State.SENT, State.READY),
    )
)


class NotAllowed(Exception):  # noqa: N818  # what happened
    """A move that the table does not have. `str()` is what the runtime is told."""

    def __init__(self, state: State, to: State) -> None:
        super().__init__(
            f"State transition from {state.value} to {to.value} failed for runtime. Error: State transition is not allowed"
        )


class Runtime:
    """One runtime process."""

    __slots__ = ("state",)

    def __init__(self, state: State = State.STARTED) -> None:
        self.state = state

    def move(self, to: State) -> None:
        """Raises NotAllowed; then nothing has changed."""
        if (self.state, to) not in _MOVES:
            raise NotAllowed(self.state, to)
        self.state = to

    def next(self) -> bool:
        """It asks for an invocation; True: it runs one, and is to be given that again."""
        again = self.state is State.RUNNING
        self.move(State.RUNNING if again else State.READY)
        return again
