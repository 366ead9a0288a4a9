"""Levels of isolation: what a node takes, offers and refuses, and what the launcher's command line is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ondol.keeper.cgroup_places import Hierarchy
from ondol.keeper.cgroups import Cgroups
from ondol.keeper.trying import Finding
from ondol.launcher import __main__ as launcher
from ondol.launcher import probe as launchers
from ondol.launcher.probe import Found
from ondol.model.errors import InvalidSetting, Unavailable
from ondol.model.isolation import MAKERS, RANKS, Isolation
from ondol.node import isolating

GOOD = [Finding("user namespaces", ok=True, needed=True, detail="can be made")]
BAD = [Finding("user namespaces", ok=False, needed=True, detail="refused", mend="allow them")]


@pytest.fixture
def machine(monkeypatch):
    """A machine with these tools, and with or without what a sandbox needs. What a node says on it."""

    def make(*tools, sandbox=True):
        def find(levels, cache=None):
            del cache
            return {
                level: Found(
                    level, ok=level in (*tools, "process"), detail=f"{level}'s story", mend="install it", program=f"/{level}"
                )
                for level in levels
            }

        monkeypatch.setattr(isolating.launchers, "find", find)
        monkeypatch.setattr(isolating.probe, "probe", lambda: GOOD if sandbox else BAD)

    return make


def plan(asked):
    said = []
    return isolating.plan(asked, Path("unused"), said.append), said


def test_auto_takes_the_sandbox_and_offers_what_is_not_less(machine):
    machine("crun", "gvisor")
    made, said = plan("auto")
    assert (made.isolation.level, made.isolation.offered) == ("sandbox", ("sandbox", "crun", "gvisor"))
    assert made.words == {"crun": "crun=/crun", "gvisor": "gvisor=/gvisor"}
    assert not said


def test_auto_never_takes_less_than_a_sandbox_by_itself(machine):
    machine("bwrap", sandbox=False)
    with pytest.raises(
        Unavailable, match=r"user namespaces: refused\. allow them.*--isolation process: it stops accidents only"
    ):
        plan("auto")


def test_processes_need_nothing_and_are_announced(machine):
    machine(sandbox=False)
    made, said = plan("process")
    assert (made.isolation.level, made.isolation.offered, made.words) == (
        "process",
        ("process",),
        {"process": "process=/process"},
    )
    assert "accidents only" in said[0]


@pytest.mark.parametrize("level", ["bwrap", "crun", "gvisor"])
def test_a_named_level_that_cannot_be_had_refuses_to_start_and_says_how_to_mend_it(machine, level):
    machine()
    with pytest.raises(Unavailable, match=rf"isolation '{level}' cannot be had here: {level}'s story\. To mend it: install it"):
        plan(level)


@pytest.fixture
def runsc(monkeypatch):
    """A machine on which gVisor starts a guest, and whose control groups bound the given things."""

    def make(*controllers):
        hierarchies = [Hierarchy(2, controllers, "/none")] if controllers else []
        groups = Cgroups(hierarchies, "" if "memory" in controllers else "no writable control group for memory")
        monkeypatch.setattr(launchers.shutil, "which", lambda program, path: "/usr/bin/true")
        monkeypatch.setattr(launchers, "_try", lambda tool: "")
        monkeypatch.setattr(launchers.probe_limits, "groups", lambda: groups)

    return make


@pytest.mark.parametrize("cached", [False, True])
def test_gvisor_is_refused_where_nothing_bounds_its_memory(runsc, tmp_path, cached):
    cache = tmp_path / "isolation.json" if cached else None
    runsc("memory", "pids")
    assert launchers.find(["gvisor", "crun"], cache)["gvisor"].ok
    runsc("pids")
    found = launchers.find(["gvisor", "crun"], cache)
    assert found["crun"].ok
    assert not found["gvisor"].ok
    assert "nothing would bound the memory" in found["gvisor"].detail
    assert found["gvisor"].mend
    with pytest.raises(Unavailable, match="isolation 'gvisor' cannot be had here: .*nothing would bound the memory"):
        isolating.plan("gvisor", tmp_path / "none", lambda _: None)


def test_a_tools_node_needs_no_keeper_and_offers_more(machine):
    machine("bwrap", "gvisor", sandbox=False)
    made, _ = plan("bwrap")
    assert made.isolation.offered == ("bwrap", "gvisor")
    assert {MAKERS[level] for level in made.isolation.offered} == {"launcher"}


def test_what_is_missing_is_among_the_findings(machine):
    machine("bwrap")
    made, _ = plan("sandbox")
    shown = {each["what"]: each for each in made.findings}
    assert shown["isolation level bwrap"]["ok"]
    assert not shown["isolation level gvisor"]["ok"]
    assert shown["isolation level gvisor"]["mend"] == "install it"
    assert not shown["isolation level gvisor"]["needed"]


@pytest.mark.parametrize("asked", ["", "sandbox", "gvisor"])
def test_a_function_may_ask_for_what_is_offered(asked):
    Isolation(level="sandbox", offered=("sandbox", "gvisor")).check(asked)


@pytest.mark.parametrize(
    ("level", "asked", "why"),
    [
        ("sandbox", "process", "may ask for more, not for less, as process would be; offered: sandbox"),
        ("gvisor", "bwrap", "not for less"),
        ("sandbox", "gvisor", "gvisor cannot be had on this node: runsc is not installed. apt install runsc"),
        ("bwrap", "sandbox", "was started with --isolation bwrap"),
        ("sandbox", "vm", "is no level of isolation; expected one of process, sandbox, bwrap, crun, gvisor"),
    ],
)
def test_less_than_the_nodes_and_what_cannot_be_had_are_refused(level, asked, why):
    isolation = Isolation(level=level, offered=(level,), missing={"gvisor": "runsc is not installed. apt install runsc"})
    with pytest.raises(InvalidSetting, match=why):
        isolation.check(asked)


def test_every_level_but_the_keepers_has_a_tool():
    assert set(launchers.TOOLS) == set(RANKS) - {"sandbox"}


def test_what_was_found_is_kept_while_program_and_kernel_are_the_same(tmp_path, monkeypatch):
    looked = []

    def look(level, program):
        looked.append(level)
        return Found(level, ok=True, detail="works", program=program or "")

    monkeypatch.setattr(launchers, "_look", look)
    monkeypatch.setattr(launchers.shutil, "which", lambda program, path: "/usr/bin/true")
    cache = tmp_path / "isolation.json"
    first = launchers.find(["process", "bwrap"], cache)
    assert launchers.find(["process", "bwrap"], cache) == first
    assert sorted(looked) == ["bwrap", "process"]
    monkeypatch.setattr(launchers.os, "geteuid", lambda: 4711)
    launchers.find(["process"], cache)
    assert looked[2:] == ["process"]


def test_what_did_not_work_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(launchers, "_look", lambda level, _: Found(level, ok=False, detail="no"))
    cache = tmp_path / "isolation.json"
    assert not launchers.find(["process"], cache)["process"].ok
    monkeypatch.setattr(launchers, "_look", lambda level, _: Found(level, ok=True, detail="yes"))
    assert launchers.find(["process"], cache)["process"].ok


def test_what_is_executed_is_never_taken_from_the_file_that_front_and_desk_may_write(tmp_path, monkeypatch):
    monkeypatch.setattr(launchers.shutil, "which", lambda *_, **__: "/bin/true")
    monkeypatch.setattr(launchers, "_look", lambda level, _: Found(level, ok=True, detail="", program="/bin/true"))
    cache = tmp_path / "isolation.json"
    launchers.find(["gvisor"], cache)
    kept = json.loads(cache.read_text())
    for lie in (
        {"options": ["-platform=ptrace", "--root=/etc"]},
        {"options": "anything"},
        {"program": "/tmp/mine", "is": {"program": "/tmp/mine"}},
        {"stamp": None},
    ):
        cache.write_text(json.dumps({"gvisor": kept["gvisor"] | lie}))
        found = launchers.find(["gvisor"], cache)["gvisor"]
        assert (found.program, found.options) == ("/bin/true", ())
    for broken in ("[]", '{"gvisor": 1}', '{"gvisor": {}}', "{"):
        cache.write_text(broken)
        assert launchers.find(["gvisor"], cache)["gvisor"].ok


def test_a_tool_that_starts_nothing_is_told_with_what_it_said(tmp_path, monkeypatch):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap 9.9'\necho 'no namespaces today' >&2\nexit 1\n")
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(launchers, "_PATH", str(tmp_path))
    found = launchers.find(["bwrap"])["bwrap"]
    assert not found.ok
    assert "bwrap 9.9" in found.detail
    assert "does not work" in found.detail


# The launcher's command line --------------------------------------------------------------------------------------------
def test_the_launchers_command_line_is_read():
    options = launcher.parse(
        [
            "--supervisor-fd",
            "7",
            "--data",
            "/d",
            "--node-id",
            "n1",
            "--level",
            "bwrap=/b",
            "--level",
            "gvisor=/r=-platform=ptrace -x",
        ]
    )
    assert (options.kind, options.tools["bwrap"].program) == ("tools", "/b")
    assert options.tools["gvisor"].options == ("-platform=ptrace", "-x")


@pytest.mark.parametrize(
    "argv",
    [
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n1"],
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n1", "--level", "vm"],
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n/1", "--level", "process"],
        ["--supervisor-fd", "7", "--data", "/d", "--node-id", "n1", "--level", "process", "--level", "bwrap=/b"],
        ["--supervisor-fd"],
        ["--unknown", "x"],
    ],
)
def test_a_command_line_that_cannot_be_is_refused(argv, capfd):
    assert launcher.main(argv) == launcher.EXIT_USAGE
    assert capfd.readouterr().err.startswith("launcher: ")
