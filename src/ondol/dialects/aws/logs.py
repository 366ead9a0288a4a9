"""CloudWatch Logs in one table: which handler answers which operation. Each concern has a module of its own (`logs_*`)."""

from __future__ import annotations

from functools import partial

from ondol.clock import Clock, SystemClock
from ondol.dialects.aws.logs_events import Events
from ondol.dialects.aws.logs_groups import Groups
from ondol.dialects.aws.logs_parts import answered
from ondol.dialects.aws.logs_streams import Streams
from ondol.dialects.aws.logs_tags import Tags
from ondol.dialects.aws.logs_tail import LiveTail, Standing, always
from ondol.dialects.aws.service import Operations
from ondol.journal import LogStore


class Logs:
    """The operations, over a log store. `standing`: whether somebody's key is still what it was when they were let in."""

    def __init__(self, store: LogStore, clock: Clock | None = None, *, standing: Standing = always) -> None:
        clock = clock or SystemClock()
        self._rooms = (Groups(store), Streams(store), Events(store, clock), Tags(store), LiveTail(store, clock, standing))

    @property
    def operations(self) -> Operations:
        return {name: partial(answered, handler) for room in self._rooms for name, handler in room.operations().items()}
