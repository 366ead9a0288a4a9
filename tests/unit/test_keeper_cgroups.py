"""Control groups without a kernel: what is read, where a node's groups go, what is written, what a weight is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ondol.keeper import cgroup_places
from ondol.keeper.cgroup_places import Hierarchy, Mounted
from ondol.keeper.cgroups import Cgroups, weight


# Files ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "limit", "peak", "kills", "kills_text"),
    [
        (
            1,
            "memory.limit_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
        (2, "memory.max", "memory.peak", "memory.events", "low 0\noom 5\noom_kill 2\n"),
    ],
)
def test_limits_and_usage_in_both_versions(tmp_path, version, limit, peak, kills, kills_text):
    groups = Cgroups([Hierarchy(version, ("memory", "pids"), str(tmp_path))])
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / peak).write_text("4096\n")
    (tmp_path / "shell" / kills).write_text(kills_text)
    groups.limit("shell", 1 << 20)
    assert (tmp_path / "shell" / limit).read_text() == str(1 << 20)
    assert groups.usage("shell") == (4096, 2)


def test_without_control_groups_nothing_is_limited_and_nothing_breaks():
    groups = Cgroups()
    groups.limit("shell", 1)
    groups.hurry("shell")
    assert groups.make("shell") == []
    assert groups.usage("shell") == (0, 0)
    assert groups.remove("shell") and groups.remove_all()


@pytest.mark.parametrize(
    ("version", "controllers", "file"),
    [(1, (), "tasks"), (2, (), "cgroup.threads"), (2, ("memory",), "cgroup.procs")],
    ids=["version 1", "version 2 beside it", "version 2 alone"],
)
def test_who_joins_a_group_by_itself_takes_no_lock_where_the_kernel_has_a_way_without(
    tmp_path, monkeypatch, version, controllers, file
):
    (tmp_path / "cgroup.procs").write_text("")
    groups = Cgroups([Hierarchy(version, controllers, str(tmp_path))])
    made = os.mkdir

    def mkdir(path, mode):
        made(path, mode)
        for name in ("tasks", "cgroup.procs", "cgroup.threads"):
            Path(path, name).touch()

    monkeypatch.setattr(os, "mkdir", mkdir)
    groups.enter()
    (fd,) = groups.make("shell")
    assert os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / "shell" / file)
    os.close(fd)
    assert (tmp_path / "cgroup.procs").read_text() == ("0" if file == "cgroup.threads" else "")


def test_where_a_node_may_not_be_in_its_own_parent_whole_processes_join(tmp_path):
    groups = Cgroups([Hierarchy(2, (), str(tmp_path / "not there"))])
    groups.enter()
    assert groups.entered == ""


@pytest.mark.parametrize(("version", "file"), [(1, "cpu.shares"), (2, "cpu.weight")])
def test_cpu_time_is_in_proportion_to_memory_and_who_dies_hurries(tmp_path, version, file):
    groups = Cgroups([Hierarchy(version, ("cpu",), str(tmp_path))])
    shell = tmp_path / "shell"
    shell.mkdir()

    def weighed(memory_mib):
        groups.limit("shell", memory_mib << 20)
        return int((shell / file).read_text())

    ordinary = {1: 1024, 2: 100}[version]
    assert weighed(1769) == ordinary
    assert weighed(3538) == 2 * ordinary
    assert weighed(10240) / weighed(1024) == pytest.approx(10, rel=0.05)
    weighed(128)
    groups.hurry("shell")
    assert int((shell / file).read_text()) == 100 * ordinary


def test_a_weight_stays_within_what_the_kernel_takes():
    assert weight(1 << 20, 100, 1) == 1
    assert weight(1 << 50, 100, 1) == 10_000
    assert 2 <= weight(1 << 20, 1024, 2) and weight(1 << 50, 1024, 2) <= 262_144


# What is mounted --------------------------------------------------------------------------------------------------------
def machine(tmp_path, groups, mounts):
    """A /proc/self of these texts; `{top}` in them is a directory that is there."""
    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "mountinfo").write_text(mounts.replace("{top}", str(tmp_path)))
    return str(tmp_path)


def test_the_own_group_is_found_in_each_hierarchy(tmp_path):
    (tmp_path / "memory/a/b").mkdir(parents=True)
    (tmp_path / "unified").mkdir()
    proc = machine(
        tmp_path,
        "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n",
        "30 25 0:26 / {top}/memory rw,relatime - cgroup cgroup rw,memory\n"
        "31 25 0:27 / {top}/unified ro,relatime - cgroup2 cgroup2 rw\n"
        "32 25 0:28 / {top} rw - tmpfs none rw\n",
    )
    assert cgroup_places.mounted(proc) == [
        Mounted(1, ("memory",), f"{tmp_path}/memory", f"{tmp_path}/memory/a/b"),
        Mounted(2, ("",), f"{tmp_path}/unified", f"{tmp_path}/unified"),
    ]


def test_a_container_that_is_shown_its_own_part_of_the_hosts_tree_stands_at_its_top(tmp_path):
    (tmp_path / "here").mkdir()
    proc = machine(tmp_path, "0::/docker/c0ffee/here\n", "31 25 0:27 /docker/c0ffee {top} rw,relatime - cgroup2 cgroup2 rw\n")
    assert cgroup_places.mounted(proc)[0].own == f"{tmp_path}/here"


def test_of_what_is_mounted_over_each_other_the_last_is_taken(tmp_path):
    mounts = "31 25 0:27 /../.. {top} rw - cgroup2 cgroup2 rw\n40 31 0:27 / {top} rw - cgroup2 cgroup2 rw\n"
    assert len(cgroup_places.mounted(machine(tmp_path, "0::/\n", mounts))) == 1


def test_a_group_outside_of_what_is_mounted_counts_as_the_top(tmp_path):
    proc = machine(tmp_path, "0::/../other\n", "31 25 0:27 / {top} rw,relatime - cgroup2 cgroup2 rw\n")
    assert cgroup_places.mounted(proc)[0].own == str(tmp_path)


# Version 2: a kernel of the test's ----------------------------------------------------------------------------------------
class Tree:
    """Directories with the files of control groups, whose writes do what the kernel's do."""

    def __init__(self, top, monkeypatch):
        self.top = top
        self.delegated = set()
        self.forbidden = set()
        monkeypatch.setattr(cgroup_places, "try_write", self.try_write)
        monkeypatch.setattr(cgroup_places, "_delegated", lambda directory: directory in self.delegated)
        monkeypatch.setattr(cgroup_places.os, "makedirs", self.makedirs)
        monkeypatch.setattr(cgroup_places.os, "access", lambda path, _mode: os.path.dirname(path) not in self.forbidden)
        monkeypatch.setattr(cgroup_places, "_remove", self.remove)
        self.removed = []

    def group(self, name, controllers="", handed="", processes=""):
        path = f"{self.top}/{name}".rstrip("/")
        Path(path).mkdir(parents=True, exist_ok=True)
        for file, text in (
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", handed),
            ("cgroup.procs", processes.replace(" ", "\n")),
            *((("cgroup.type", "domain\n"),) if name else ()),
        ):
            with open(f"{path}/{file}", "w") as out:
                out.write(text)
        return path

    def makedirs(self, path, exist_ok):
        above = os.path.dirname(path)
        if above in self.forbidden:
            raise PermissionError(13, "no")
        if not os.path.isdir(path):
            os.mkdir(path)
            handed = self.text(above, "cgroup.subtree_control")
            self.group(os.path.relpath(path, self.top), controllers=handed)

    def try_write(self, path, text):
        group, file = os.path.split(path)
        if file == "cgroup.subtree_control":
            has = self.text(group, "cgroup.procs").strip()
            topmost = not os.path.exists(f"{group}/cgroup.type")
            if (has and not topmost) or text[1:] not in self.text(group, "cgroup.controllers").split():
                return False
            self.append(path, f" {text[1:]}")
            for below in [entry.path for entry in os.scandir(group) if entry.is_dir()]:
                self.append(f"{below}/cgroup.controllers", f" {text[1:]}")
        elif file == "cgroup.procs":
            for other, _, _ in os.walk(self.top):
                left = [pid for pid in self.text(other, "cgroup.procs").split() if pid != text]
                with open(f"{other}/cgroup.procs", "w") as out:
                    out.write("\n".join(left))
            self.append(path, f"\n{text}")
        return True

    def remove(self, path):
        self.removed.append(os.path.relpath(path, self.top))
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
        return True

    def text(self, group, file):
        with open(f"{group}/{file}") as f:
            return f.read()

    def append(self, path, text):
        with open(path, "a") as out:
            out.write(text)

    def taken(self, own):
        reasons = {}
        mounted = Mounted(2, ("",), str(self.top), f"{self.top}/{own}".rstrip("/"))
        found = cgroup_places._take_v2(mounted, cgroup_places.CONTROLLERS, "ondol-n", reasons)
        return [(os.path.relpath(h.parent, self.top), " ".join(h.controllers)) for h in found], reasons


ALL = "memory pids cpu"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    # It stands on a machine with systemd, as root, unless a test says otherwise.
    monkeypatch.setattr(cgroup_places, "_SYSTEMD", str(tmp_path))
    monkeypatch.setattr(cgroup_places.os, "geteuid", lambda: 0)
    return Tree(tmp_path, monkeypatch)


def test_a_root_in_a_unit_that_is_not_its_own_takes_the_machines_topmost(tree):
    tree.group("", ALL, handed=ALL)
    tree.group("system.slice", ALL, handed=ALL)
    tree.group("system.slice/ondol.service", ALL, processes="7 8")
    assert tree.taken("system.slice/ondol.service") == ([("ondol-n", ALL)], {})
    assert tree.text(f"{tree.top}/system.slice/ondol.service", "cgroup.procs").split() == ["7", "8"]


def test_in_a_delegated_unit_its_processes_move_into_a_leaf_and_functions_go_beside_it(tree):
    tree.group("", ALL, handed=ALL)
    tree.group("system.slice", ALL, handed=ALL)
    unit = tree.group("system.slice/ondol.service", ALL, processes="7 8")
    tree.delegated.add(unit)
    assert tree.taken("system.slice/ondol.service") == ([("system.slice/ondol.service/ondol-n", ALL)], {})
    assert tree.text(unit, "cgroup.procs").split() == []
    assert tree.text(f"{unit}/ondol-main", "cgroup.procs").split() == ["7", "8"]


def test_a_keeper_that_starts_again_finds_the_divided_unit_from_its_leaf(tree):
    tree.group("", ALL, handed=ALL)
    unit = tree.group("u.service", ALL, processes="7")
    tree.delegated.add(unit)
    first = tree.taken("u.service")
    assert tree.taken("u.service/ondol-main") == first


def test_a_containers_top_is_divided(tree):
    tree.group(".", ALL, processes="1 7")  # seen from inside its group has a type: it is not the machine's topmost
    assert tree.taken("") == ([("ondol-n", ALL)], {})
    assert tree.text(f"{tree.top}/ondol-main", "cgroup.procs").split() == ["1", "7"]


def test_processes_that_cannot_be_moved_leave_the_group_without_controllers(tree, monkeypatch):
    tree.group(".", ALL, processes="0 7")  # 0: of another pid namespace
    exists = os.path.exists
    monkeypatch.setattr(cgroup_places.os.path, "exists", lambda path: path == "/proc/0" or exists(path))
    write = tree.try_write
    monkeypatch.setattr(
        cgroup_places, "try_write", lambda path, text: not (path.endswith("cgroup.procs") and text == "0") and write(path, text)
    )
    found, reasons = tree.taken("")
    assert found == [("ondol-n", "")]
    assert list(reasons) == ["hands down none only"]


def test_an_ordinary_user_takes_the_nearest_slice_that_is_theirs(tree, monkeypatch):
    monkeypatch.setattr(cgroup_places.os, "geteuid", lambda: 1000)
    tree.forbidden |= {tree.group("", ALL, handed=ALL), tree.group("user-1000.slice", ALL, handed=ALL)}
    tree.group("user-1000.slice/user@1000.service", "memory pids", handed="memory pids")
    tree.group("user-1000.slice/user@1000.service/app.slice", "memory pids", handed="memory pids")
    own = "user-1000.slice/user@1000.service/app.slice/run.scope"
    tree.group(own, "memory pids", processes="7")
    found, reasons = tree.taken(own)
    assert found == [("user-1000.slice/user@1000.service/app.slice/ondol-n", "memory pids")]
    assert "hands down memory pids only" in reasons
    assert tree.removed == [f"{own}/ondol-n", "user-1000.slice/user@1000.service/ondol-n"], "what gave no more is gone again"


def test_where_nothing_can_be_written_the_reason_is_told(tree, monkeypatch):
    monkeypatch.setattr(cgroup_places.os, "geteuid", lambda: 1000)
    tree.forbidden |= {tree.group("", ALL, handed=ALL), tree.group("session.scope", ALL, processes="7")}
    found, reasons = tree.taken("session.scope")
    assert found == []
    assert "Permission denied" in cgroup_places.lacking([], reasons)
