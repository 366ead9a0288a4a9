"""The doctor in surroundings as bad as real ones: what it says there is what is so, and looking breaks nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ondol.testing.node import clean_environment
from ondol.testing.patience import PATIENCE

pytestmark = [pytest.mark.sandbox, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make such surroundings")]

SOURCE = Path(__file__).parents[2] / "src"
#: As containers do: a pid namespace of its own, parts of /proc covered, control groups read-only.
MASKED = """
import os, sys
from ondol import syscalls
syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount("proc", "/proc", "proc")
syscalls.mount("none", "/proc/irq", "tmpfs")
"""
READ_ONLY_GROUPS = """
for line in open("/proc/self/mountinfo").read().splitlines():
    if line.partition(" - ")[2].startswith("cgroup"):
        fd = syscalls.open_tree(line.split()[4])
        syscalls.mount_setattr(fd, syscalls.ATTR_RDONLY)
        syscalls.move_mount(fd, line.split()[4])
"""
#: Of what a container's default filter refuses.
FILTERED = """
import errno, struct
refused = [272, 308, 165, 166, 155, 428, 429, 430, 431, 432, 442]  # unshare, setns and the mount calls of x86-64
code = [(0x20, 0, 0, 0), *[(0x15, len(refused) - i, 0, n) for i, n in enumerate(refused)]]
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
syscalls.install_filter(b"".join(struct.pack("<HBBI", *each) for each in code))
"""
WITHOUT_RIGHTS = "syscalls.drop_bounding(); syscalls.set_capabilities(0)\n"
DOCTOR = """
os.execv(sys.executable, [sys.executable, "-m", "ondol.cli.main", "doctor", "--json", "--listen", "127.0.0.1:0"])
"""


def doctor(*surroundings, expect):
    """The findings of a doctor started so, by what was looked at."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n" + "".join(surroundings) + DOCTOR
    with tempfile.TemporaryDirectory(prefix="ondol-doctor-") as folder:  # where a node ran, its data is another user's
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
            check=False,
            env=clean_environment(),
            cwd=folder,
        )
    assert ran.returncode == expect, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    assert told["able"] is (expect == 0)
    return {finding["what"]: finding for finding in told["findings"]}


def test_in_a_container_that_forbids_everything_each_line_says_what_to_start_it_with():
    found = doctor(MASKED, READ_ONLY_GROUPS, WITHOUT_RIGHTS, FILTERED, expect=4)
    assert not found["user namespaces"]["ok"]
    assert "Operation not permitted" in found["user namespaces"]["detail"]
    assert "/proc/irq" in found["a /proc for each shell"]["detail"]
    memory = found["control groups: memory limit (memory)"]
    assert "Read-only file system" in memory["detail"] and "not limited" in memory["means"]
    assert all(finding["mend"] for finding in found.values() if not finding["ok"])
    assert not found["disks for /tmp"]["ok"]


def test_a_container_that_lacks_control_groups_only_can_have_a_node():
    found = doctor(MASKED, READ_ONLY_GROUPS, expect=0)
    lacking = {what for what, finding in found.items() if finding["part"] == "isolation" and not finding["ok"]}
    assert lacking >= {f"control groups: {name}" for name in ("memory limit (memory)", "CPU weight (cpu)", "freezing")}


def test_a_root_of_its_own_user_namespace_is_treated_as_the_ordinary_user_it_is():
    """As in a rootless container: it has every capability, but no ids to give away."""
    enter = """
import os, sys
from ondol import syscalls
syscalls.unshare(syscalls.CLONE_NEWUSER)
for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
    open(f"/proc/self/{name}", "w").write(text)
"""
    found = doctor(enter, expect=0)
    assert found["disks for /tmp"]["detail"] == "only root can mount them"
    forbid = 'open("/proc/sys/user/max_user_namespaces", "w").write("0")\n'
    assert "max_user_namespaces is 0" in doctor(enter, forbid, expect=4)["user namespaces"]["detail"]


def test_disks_can_be_had_where_devices_have_no_names():
    """As in a privileged container, whose /dev has what was there when it was started."""
    bare_dev = """
syscalls.mount("none", "/dev", "tmpfs", 0, "mode=755")
for name, number in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
    os.mknod(f"/dev/{name}", 0o20666, os.makedev(1, number))
"""
    there = doctor("import os\n", expect=0)["disks for /tmp"]
    if not there["ok"]:
        pytest.skip(there["detail"])
    assert doctor(MASKED, bare_dev, expect=0)["disks for /tmp"]["ok"]


def test_looking_mounts_nothing_where_mounts_are_shared():
    """As under systemd: what is mounted in a copy of a shared mount namespace is passed on to the machine's."""
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        + """
import os
from ondol import syscalls
from ondol.keeper import probe
MS_SHARED = 1 << 20
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("none", "/", "", syscalls.MS_REC | MS_SHARED)
before = open("/proc/self/mountinfo").read()
probe.probe()
assert open("/proc/self/mountinfo").read() == before
"""
    )
    subprocess.run([sys.executable, "-c", code], timeout=120 * PATIENCE, check=True)


def test_looking_leaves_no_group_and_moves_no_process():
    code = (
        f"import os, sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        + """
from ondol.keeper.cgroups import Cgroups
before = open("/proc/self/cgroup").read()
found = Cgroups.look("looker")
assert open("/proc/self/cgroup").read() == before
print(*[h.parent for h in found.hierarchies], "/ondol-looker")
"""
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120 * PATIENCE, check=True)
    assert all("/ondol-looker" in path and not os.path.exists(path) for path in ran.stdout.split())
