"""How a process that a sandbox started has ended, when nobody may be left who could say so."""

from __future__ import annotations

import logging
import signal

from ondol.sandbox import Child

log = logging.getLogger(__name__)


async def exit_of(child: Child) -> int:
    """Exit status, or minus the signal's number. When nobody can tell, its zygote is gone, and then it was killed."""
    try:
        return await child.wait()
    except Exception as error:
        log.warning("how process %d ended is not known: %s", child.pid, error)
        return -signal.SIGKILL
