"""Builds `ondol._hot`, the accelerator, where a C compiler and Python's headers are there; says nothing where they are not.

Without it everything works, slower: `ondol doctor` says which it is. In an editable install the module lies next to its source.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/ondol/_hot.c")
FLAGS = ("-O3", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-DNDEBUG")
#: ONDOL_BUILD_ACCELERATOR=required makes a failure to build it an error, =off leaves it out.
VARIABLE = "ONDOL_BUILD_ACCELERATOR"


class Accelerator(BuildHookInterface):  # type: ignore[misc]
    """Hatchling's hook."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and have the module packed."""
        wanted = os.environ.get(VARIABLE, "")
        if self.target_name != "wheel" or wanted == "off":
            return
        root = Path(self.root)
        built = root / SOURCE.with_name(f"_hot{sysconfig.get_config_var('EXT_SUFFIX')}")
        with contextlib.suppress(OSError):
            built.unlink(missing_ok=True)  # an older one must not outlive a source that does not build
        failure = build(root / SOURCE, built)
        if failure and wanted == "required":
            raise RuntimeError(f"the accelerator could not be built: {failure}")
        if not failure:
            build_data["infer_tag"], build_data["pure_python"] = True, False
            if version != "editable":
                build_data["force_include"][str(built)] = f"ondol/{built.name}"


def build(source: Path, built: Path) -> str:
    """Compile; why not, or ""."""
    compiler = os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc").partition(" ")[0]
    if os.name != "posix" or sys.implementation.name != "cpython" or not compiler:
        return f"not on {os.name} with {sys.implementation.name}"
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        made = Path(folder) / built.name
        shared = ("-bundle", "-undefined", "dynamic_lookup") if sys.platform == "darwin" else ("-shared",)
        include = f"-I{sysconfig.get_paths()['include']}"
        command = [*compiler.split(), *FLAGS, *shared, include, str(source), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            logging.getLogger(__name__).debug("%s", done.stderr)
            return done.stderr[-2000:] or f"{compiler} ended with {done.returncode}"
        made.replace(built)
    return ""
