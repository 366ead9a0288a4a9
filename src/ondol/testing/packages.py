"""System packages that a test needs: installed by the test itself where it is root and `apt-get` is there."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

INSTALL_S_MAX: Final = 300.0
_LOCK: Final = Path("/var/lock/ondol-test-packages")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def need(package: str, *, program: str) -> str:
    """The path of `program`, which `package` brings. Skips the test where it cannot be had; fails there in CI."""
    found = shutil.which(program, path=_PATH) or _installed(package, program)
    if found is None:
        reason = f"{program} is not installed (apt install {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _installed(package: str, program: str) -> str | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        install = ["install", "--yes", "--no-install-recommends", package]
        for words in (install, ["update"], install):  # the machine's lists may be old, or not there yet
            if shutil.which(program, path=_PATH) is None:
                command = ["apt-get", "-o", "DPkg::Lock::Timeout=60", *words]
                environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
                subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_S_MAX, check=False)
    return shutil.which(program, path=_PATH)
