"""net.ipv4.ip_forward: switched on for ways out, and off again when no node of the machine needs it any more.

The kernel forwards an answer only where the device that it came by forwards, and that may be any of the machine's: so it is the
setting of the whole machine. A file of root's below /run says that it was off, and what devices there were; who needs it on
holds a shared lock of that file, which the kernel takes away from whoever dies, however. Who cleans up after a node tries for
the lock alone, and puts back what was. Where devices have come meanwhile that are not ours (a container engine's bridge), it
stays on: their owner found it on, and may count on it.

Each network namespace has its own setting, and so a file. Knows nothing of gateways.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

SETTING = "/proc/sys/net/ipv4/ip_forward"
DIRECTORY = "/run/ondol"
_BYTES_MAX = 1 << 20


def need(ours: str) -> tuple[int, bool]:
    """Switch it on: a descriptor to hold as long as it is needed, and whether it was off. `ours`: how our devices' names begin.

    -1 where nothing can be kept in /run: then it stays on. Raises OSError where it cannot be switched on.
    """
    held = -1
    with suppress(OSError):
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        held = _held()
    was_off = _setting() == "0"
    if was_off:
        if held >= 0:
            os.pwrite(held, json.dumps(_devices(ours)).encode(), 0)
        _set("1")
    return held, was_off


def put_back(ours: str) -> bool:
    """Switch it off again if nobody needs it and it was us; whether that was done. Never waits, never raises."""
    try:
        file = os.open(_path(), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it was never switched on; or we are not root
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = json.loads(os.pread(file, _BYTES_MAX, 0) or b"null")
        off = before is not None and set(_devices(ours)) <= set(before)
        if off:
            _set("0")
        os.unlink(_path())
    except (OSError, ValueError, TypeError):  # somebody needs it
        return False
    finally:
        os.close(file)
    return off


def _held() -> int:
    """The file, with a shared lock."""
    while True:
        file = os.open(_path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_SH)  # waits for who is putting back, a moment
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(_path())):
                return file
        os.close(file)


def _path() -> str:
    return f"{DIRECTORY}/forwarding-{os.stat('/proc/self/ns/net').st_ino}"


def _devices(ours: str) -> Sequence[str]:
    return sorted(name for _, name in socket.if_nameindex() if not name.startswith(ours))


def _setting() -> str:
    with open(SETTING, encoding="ascii") as file:
        return file.read(1)


def _set(value: str) -> None:
    with open(SETTING, "w", encoding="ascii") as file:
        file.write(value)
