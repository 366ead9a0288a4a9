"""What the probes say of machines that are not there: each refusal with its reason, what it means, and how to mend it."""

from __future__ import annotations

import errno
import os

import pytest

from ondol.keeper import probe, probe_limits
from ondol.keeper.cgroup_places import Hierarchy
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.probe_namespaces import namespaces
from ondol.keeper.surroundings import Surroundings
from ondol.keeper.trying import Finding

EPERM = f"[Errno 1] unshare: {os.strerror(errno.EPERM)}"
REAL_NAMESPACES = {"pid": "pid:[4026531836]", "cgroup": "cgroup:[4026531835]"}


@pytest.fixture
def machine(tmp_path):
    """A root directory with these files, and namespaces: the machine's first ones unless told otherwise."""

    def make(files=(), environment=(), links=()):
        for name, text in {"proc/self/status": "Name:\tx\nSeccomp:\t0\n", **dict(files)}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "proc/self/ns").mkdir(parents=True, exist_ok=True)
        for kind, target in {**REAL_NAMESPACES, **dict(links)}.items():
            (tmp_path / "proc/self/ns" / kind).symlink_to(target)
        return Surroundings(f"{tmp_path}/", dict(environment))

    return make


def refusing(*errors):
    """Tries end so, one after the other; the last holds for all that follow."""
    left = list(errors)
    return lambda _action: left.pop(0) if len(left) > 1 else left[0]


def found(around, *errors):
    findings = namespaces(around, refusing(*errors))
    assert all(finding.needed for finding in findings)
    return {finding.what: finding for finding in findings}


CONTAINER = {"pid": "pid:[4026532600]"}


# Namespaces -------------------------------------------------------------------------------------------------------------
def test_where_everything_is_allowed_nothing_is_to_be_mended(machine):
    assert all(finding.ok and not finding.mend and not finding.means for finding in found(machine(), "").values())


@pytest.mark.parametrize(
    ("files", "error", "said", "mend"),
    [
        ({"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, EPERM, "userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"proc/sys/user/max_user_namespaces": "0\n"}, "No space left", "max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="),
        ({}, f"unshare: {os.strerror(errno.EINVAL)}", "Invalid", "CONFIG_USER_NS"),
        ({"proc/self/status": "Name:\tx\nSeccomp:\t2\n"}, EPERM, "a filter of system calls", "no SystemCallFilter"),
        ({}, EPERM, "not permitted", "security module"),
    ],
)  # fmt: skip
def test_refused_user_namespaces_are_explained(machine, files, error, said, mend):
    finding = found(machine(files), error)["user namespaces"]
    assert not finding.ok and said in finding.detail and mend in finding.mend
    assert finding.means == "no node can run here"


def test_user_namespaces_without_rights_are_ubuntus_apparmor(machine):
    around = machine({"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"})
    finding = found(around, "", EPERM)["user namespaces"]
    assert not finding.ok
    assert "AppArmor" in finding.detail
    assert "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in finding.mend


@pytest.mark.parametrize("files", [{"proc/1/root/file": ""}, {"proc/self/mountinfo": "3 1 0:9 / /proc rw - proc proc rw\n"}])
def test_in_a_chroot_one_is_told_so(machine, files):
    assert found(machine(files), EPERM)["user namespaces"].mend.startswith("this is a chroot")


@pytest.mark.parametrize(
    ("files", "environment", "kind", "option"),
    [
        ({".dockerenv": ""}, {}, "docker", "--security-opt seccomp=unconfined"),
        ({"run/.containerenv": ""}, {}, "podman", "--security-opt seccomp=unconfined"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes", "seccompProfile: {type: Unconfined}"),
        ({"run/systemd/container": "lxc"}, {}, "lxc", "let it have its own namespaces"),
    ],
)
def test_in_a_container_the_options_to_start_it_with_are_named(machine, files, environment, kind, option):
    around = machine(files, environment, CONTAINER)
    assert around.container == kind
    assert option in found(around, EPERM)["user namespaces"].mend


def test_a_machine_whose_image_was_a_container_once_is_none(machine):
    assert machine({".dockerenv": ""}).container == ""


def test_what_hides_parts_of_proc_is_named(machine):
    mounts = "1 2 0:1 / /proc rw - proc proc rw\n3 1 0:9 / /proc/acpi ro - tmpfs tmpfs ro\n4 1 0:1 /sys /proc/sys ro - proc proc rw\n"
    around = machine({"proc/self/mountinfo": mounts, ".dockerenv": ""}, links=CONTAINER)
    finding = found(around, "a new /proc is refused")["a /proc for each shell"]
    assert "/proc/acpi, /proc/sys" in finding.detail
    assert "systempaths=unconfined" in finding.mend


def test_an_old_kernel_is_told_from_a_profile_that_refuses_mounts(machine):
    around = machine({"proc/self/attr/current": "docker-default (enforce)\n", ".dockerenv": ""}, links=CONTAINER)
    assert "Linux 5.12" in found(around, f"open_tree: {os.strerror(errno.ENOSYS)}")["the kernel's mount calls"].mend
    mend = found(around, "mount: Permission denied")["the kernel's mount calls"].mend
    assert "docker-default (enforce)" in mend and "apparmor=unconfined" in mend


# Limits -----------------------------------------------------------------------------------------------------------------
def limits(around, groups):
    return {
        finding.what.rpartition("(")[2].rstrip(")"): finding
        for finding in probe_limits.control_groups(around, lambda _: groups)
    }


def test_each_controller_has_a_finding_of_its_own(machine):
    groups = Cgroups([Hierarchy(2, ("memory", "pids"), "/sys/fs/cgroup/x/ondol-n")], "no writable control group for cpu")
    findings = limits(machine(), groups)
    assert (findings["memory"].ok, findings["pids"].ok, findings["cpu"].ok) == (True, True, False)
    assert findings["memory"].detail == "version 2, in /sys/fs/cgroup/x"
    assert "evenly" in findings["cpu"].means
    assert findings["control groups: freezing"].ok


@pytest.mark.parametrize(
    ("user", "files", "links", "missing", "mend"),
    [
        (0, {}, {}, "no control group file system is mounted", "mount -t cgroup2 none /sys/fs/cgroup"),
        (0, {}, {}, os.strerror(errno.EROFS), "mount -o remount,rw /sys/fs/cgroup"),
        (0, {".dockerenv": ""}, CONTAINER, os.strerror(errno.EROFS), "--privileged"),
        (7, {"run/systemd/system/x": ""}, {}, "Permission denied", "systemd-run --user --scope -p Delegate=yes ondol up"),
        (7, {}, {}, "Permission denied", "run as root"),
        (7, {"proc/cgroups": "#name\nmemory\t0\t1\t0\n"}, {}, "none", "cgroup_enable=memory"),
    ],
)
def test_a_missing_memory_limit_says_how_to_get_it(machine, monkeypatch, user, files, links, missing, mend):
    monkeypatch.setattr(probe_limits.os, "geteuid", lambda: user)
    finding = limits(machine(files, links=links), Cgroups([], missing))["memory"]
    assert (finding.ok, finding.needed) == (False, False)
    assert mend in finding.mend
    assert "not limited" in finding.means


def test_a_user_whose_manager_was_not_given_cpu_is_told_how_root_gives_it(machine, monkeypatch):
    monkeypatch.setattr(probe_limits.os, "geteuid", lambda: 7)
    groups = Cgroups([Hierarchy(2, ("memory", "pids"), "/sys/fs/cgroup/x/ondol-n")], "hands down memory pids only")
    assert "Delegate=cpu memory pids for user@.service" in limits(machine({"run/systemd/system/x": ""}), groups)["cpu"].mend


# All together -----------------------------------------------------------------------------------------------------------
GOOD = Finding("namespaces", ok=True, needed=True, detail="")
NO_MEMORY = Finding("memory", ok=False, needed=False, detail="", mend="m", means="memory is not limited")
NO_DISKS = Finding("disks", ok=False, needed=False, detail="", mend="m", means="a full /tmp ends the function")


def test_what_is_lacking_is_one_paragraph_of_what_it_means():
    text = probe.lacking([GOOD, NO_MEMORY, NO_DISKS])
    assert "memory is not limited; a full /tmp ends the function" in text and "ondol doctor" in text
    assert "\n" not in text
    assert probe.lacking([GOOD]) == ""


def test_only_what_is_needed_keeps_a_node_from_running():
    assert probe.able([GOOD, NO_MEMORY])
    assert not probe.able([Finding("namespaces", ok=False, needed=True, detail="")])


def test_layers_are_shown_with_the_needed_ones_first(monkeypatch):
    monkeypatch.setattr(probe, "LAYERS", (lambda: [NO_MEMORY], lambda: [GOOD]))
    assert probe.probe() == [GOOD, NO_MEMORY]


@pytest.mark.parametrize("pattern", ["core", "/var/crash/%p", ""])
def test_crashes_that_are_written_to_a_file_or_nowhere_are_nothing_to_warn_of(tmp_path, pattern):
    assert probe_limits.crashes(_with_core_pattern(tmp_path, pattern)).ok


def test_a_program_that_is_given_every_crash_is_named_with_what_that_means_and_how_to_mend_it(tmp_path):
    found = probe_limits.crashes(_with_core_pattern(tmp_path, "|/usr/lib/systemd/systemd-coredump %P %u %g"))
    assert not found.ok
    assert not found.needed
    assert "/usr/lib/systemd/systemd-coredump is started for every crash" in found.means
    assert "kernel.core_pattern=core" in found.mend


def _with_core_pattern(top, pattern):
    file = top / "proc" / "sys" / "kernel" / "core_pattern"
    file.parent.mkdir(parents=True)
    file.write_text(pattern + "\n")
    return Surroundings(root=f"{top}/")
