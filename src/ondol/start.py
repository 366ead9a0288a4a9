"""What `ondol up` runs in its own process: the supervisor. Apart from `app`, so that starting a node imports none of its rooms:
the processes that do, import them at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from ondol.config import Settings
from ondol.node import children
from ondol.runtimes.interpreters import Interpreters
from ondol.sinks import otel


def run(settings: Settings, ready: Callable[[str], None] | None = None) -> int:
    """A node, until it is told to stop (SIGINT, SIGTERM); `ready(endpoint)` is called once it answers. The exit status."""
    missing = otel.missing(settings.otel_endpoint)
    if missing:
        children.say(missing)
        return children.EXIT_REFUSED
    return children.supervise(settings, lambda kept: [asdict(each) for each in Interpreters.discover(kept).everything()], ready)
