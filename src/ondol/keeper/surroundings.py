"""What this process was started in, as far as that explains why something is refused: container, chroot, filter, profile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ondol.keeper.trying import read

#: The inode numbers that every kernel gives to the namespaces it starts with.
_INITIAL_PID, _INITIAL_CGROUP = 0xEFFFFFFC, 0xEFFFFFFB
#: What to start a container of a kind with, by what is refused in it.
_PRIVILEGED = {
    "docker": "--privileged",
    "podman": "--privileged",
    "kubernetes": "securityContext: {privileged: true}",
}
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "docker": {
        "namespaces": "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        "mounts": "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        "proc": "--security-opt systempaths=unconfined",
    },
    "podman": {
        "namespaces": "--security-opt seccomp=unconfined",
        "mounts": "--security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        "proc": "--security-opt unmask=ALL",
    },
    "kubernetes": {
        "namespaces": "securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}",
        "mounts": "securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: Unconfined}}",
        "proc": "securityContext: {procMount: Unmasked}, with hostUsers: false",
    },
}


@dataclass(frozen=True)
class Surroundings:
    """Where files are looked at; a test has others."""

    root: str = "/"
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def container(self) -> str:
        """The kind of container this is: docker, podman, kubernetes, or another word; empty where none is to be seen."""
        if self._on_the_machine_itself():
            return ""
        if "KUBERNETES_SERVICE_HOST" in self.environment:
            return "kubernetes"
        for path, kind in (("run/.containerenv", "podman"), (".dockerenv", "docker")):
            if os.path.exists(f"{self.root}{path}"):
                return kind
        kind = read(f"{self.root}run/systemd/container") or self.environment.get("container", "")
        return {"oci": "podman"}.get(kind, kind)

    def _on_the_machine_itself(self) -> bool:
        """A container has process or group namespaces of its own; files it was made of may outlive it, in a machine's image."""
        kinds = {"pid": _INITIAL_PID, "cgroup": _INITIAL_CGROUP}
        return all(_link(f"{self.root}proc/self/ns/{kind}") == f"{kind}:[{number}]" for kind, number in kinds.items())

    @property
    def chroot(self) -> bool:
        """Whether this is seen to be one: nothing is mounted at its root, or the first process has another root."""
        points = [line.split()[4] for line in read(f"{self.root}proc/self/mountinfo").splitlines()]
        if points and "/" not in points:
            return True
        try:
            return not os.path.samefile(f"{self.root}proc/1/root", self.root)
        except OSError:
            return False

    @property
    def filtered(self) -> bool:
        """Whether a filter of system calls was put upon this process by who started it."""
        return "\nSeccomp:\t2" in read(f"{self.root}proc/self/status")

    @property
    def profile(self) -> str:
        """The AppArmor profile that confines this process; empty when none does."""
        name = read(f"{self.root}proc/self/attr/apparmor/current") or read(f"{self.root}proc/self/attr/current")
        return "" if name in ("", "unconfined") or "(" not in name else name

    def hidden_in_proc(self) -> list[str]:
        """What is covered or read-only in /proc."""
        points = [line.split()[4] for line in read(f"{self.root}proc/self/mountinfo").splitlines()]
        return sorted({point for point in points if point.startswith("/proc/")})

    def options(self, refused: str) -> str:
        """How to start this container so that what is refused is not; empty outside of one."""
        kind = self.container
        if not kind:
            return ""
        some, all_ = _OPTIONS.get(kind, {}).get(refused, ""), _PRIVILEGED.get(kind, "")
        if not all_:
            return f"this is a container ({kind}): let it have its own {refused}, or run the node outside"
        choices = " or ".join(filter(None, (some, all_)))
        return f"start the {kind} container with {choices}"


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
