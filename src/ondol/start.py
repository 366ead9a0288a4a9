"""What `ondol up` runs in its own process: the supervisor. Apart from `app`, so that starting a node imports none of its rooms:
the processes that do, import them at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ondol.config import Settings
from ondol.node import children


def run(settings: Settings, ready: Callable[[str], None] | None = None) -> int:
    """A node, until it is told to stop (SIGINT, SIGTERM); `ready(endpoint)` is called once it answers. The exit status."""
    if settings.otel_endpoint:
        from ondol.sinks import otel

        if missing := otel.missing(settings.otel_endpoint):
            children.say(missing)
            return children.EXIT_REFUSED
    return children.supervise(settings, _interpreters, ready)


def _interpreters(kept: Path) -> list[dict[str, Any]]:
    """Those of this machine; `kept` is where it may be noted what was found."""
    from ondol.runtimes.interpreters import Interpreters

    return [asdict(each) for each in Interpreters.discover(kept).everything()]
