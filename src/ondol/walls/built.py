"""The walls for this machine, built once: filters as bytes, and Landlock's rules for the kernel's version."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ondol import syscalls
from ondol.walls import bpf, landlock, policy
from ondol.walls.bpf import ALLOW, Verdict
from ondol.walls.numbers import ARCHITECTURES, numbers


@dataclass(frozen=True)
class Filters:
    """Programs for seccomp."""

    zygote: bytes
    #: On top of the zygote's.
    child: bytes
    init: bytes
    #: Zygote's and child's in one, for what is no zygote's child.
    function: bytes


@dataclass(frozen=True)
class Walls:
    """What is put up here."""

    filters: Filters
    #: None: this kernel has no Landlock, or none of use.
    environment: landlock.Rules | None
    init: landlock.Rules | None

    def message(self) -> dict[str, Any]:
        """What a zygote is told (see `ondol_guest/zygote.py`)."""
        rules = self.environment
        told = rules and {"handled": rules.handled, "scoped": rules.scoped, "flags": rules.flags, "paths": rules.paths}
        return {"seccomp": syscalls.SECCOMP, "filter": self.filters.child.hex(), "landlock": told}


class NoWalls(Exception):  # noqa: N818
    """No filter of system calls can be made for this machine."""


def build(machine: str = "") -> Walls:
    """Raises NoWalls."""
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        known = " and ".join(sorted(ARCHITECTURES))
        raise NoWalls(f"no filter of system calls is known for {machine} machines, only for {known}")
    abi = syscalls.landlock_abi()
    return Walls(filters(machine), landlock.function(abi), landlock.init(abi))


@functools.cache
def filters(machine: str) -> Filters:
    """The programs for a machine of this name. Pure."""
    known = numbers(machine)

    def compiled(verdicts: Mapping[str, Verdict], default: Verdict, beyond: Verdict) -> bytes:
        here = {known[name]: verdict for name, verdict in verdicts.items() if name in known}
        here.setdefault(max(known.values()), default)
        return bpf.compile_filter(ARCHITECTURES[machine], here, default, beyond)

    usual = policy.default(), policy.beyond()
    return Filters(
        zygote=compiled(policy.zygote(), *usual),
        child=compiled(policy.child(), ALLOW, ALLOW),
        init=compiled(policy.init(), *usual),
        function=compiled(policy.function(), *usual),
    )


def confine(rules: landlock.Rules | None) -> None:
    """Put this process, and all that it starts, into a domain of its own. Needs no_new_privs."""
    if rules is not None:
        syscalls.landlock(rules.handled, rules.scoped, rules.flags, rules.paths)
