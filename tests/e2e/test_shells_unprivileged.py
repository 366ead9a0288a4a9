"""The launcher of front and desk, where the node is root."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ondol.node import unprivileged

pytestmark = [pytest.mark.sandbox, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

LOOK = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()], "groups": os.getgroups(),
    "capabilities": [int(status[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(), "fds": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n)),
    "seen": {path: os.listdir(path) if os.access(path, os.R_OK) else None for path in sys.argv[1:]},
}))
"""
USER = 54321


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        os.chmod(top, 0o755)
        path = Path(top) / "home"
        (path / "data").mkdir(parents=True)
        (path / "secret").mkdir()
        path.chmod(0o700)
        yield path


def look(keep, *paths, fds=()):
    prefix = Path(sys.base_prefix)
    argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", LOOK, *map(str, paths)]
    command = unprivileged.command(argv, uid=USER, gid=USER, keep=[prefix, *keep], fds=fds)
    done = subprocess.run(command, capture_output=True, text=True, check=True, pass_fds=fds)
    return json.loads(done.stdout)


def test_every_right_is_gone():
    seen = look([])
    assert seen["ids"] == [USER] * 4
    assert seen["groups"] == []
    assert seen["capabilities"] == [0] * 5
    assert seen["no_new_privs"] == "1"


def test_only_the_descriptors_named_stay_open():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    assert look([], fds=(reader,))["fds"] == [0, 1, 2, reader]
    os.close(reader)
    os.close(writer)


def test_what_is_needed_stays_reachable_below_a_private_directory_and_nothing_else(home):
    assert look([], home, home / "data")["seen"] == {str(home): None, str(home / "data"): None}
    shown = look([home / "data"], home, home / "data", home / "secret")["seen"]
    assert shown == {str(home): ["data"], str(home / "data"): [], str(home / "secret"): None}


def test_an_operator_s_umask_bars_nobody(home):
    (home / "data" / "deep").mkdir()
    before = os.umask(0o077)
    try:
        assert look([home / "data" / "deep"], home / "data")["seen"] == {str(home / "data"): ["deep"]}
    finally:
        os.umask(before)


def test_a_directory_is_handed_over_whole_but_for_the_shells(home):
    (home / "data" / "shells").mkdir()
    (home / "data" / "run").mkdir()
    (home / "data" / "catalog.db").touch()
    (home / "data" / "link").symlink_to("/etc/passwd")
    unprivileged.hand_over(home / "data", USER, USER)
    owners = {path.name: path.lstat().st_uid for path in (home / "data").iterdir()}
    assert owners == {"shells": 0, "run": USER, "catalog.db": USER, "link": USER}
    assert Path("/etc/passwd").stat().st_uid == 0


def test_it_dies_with_its_parent():
    code = (
        "import subprocess, sys\n"
        "from ondol.node.unprivileged import command\n"
        "from pathlib import Path\n"
        "child = subprocess.Popen(command([sys.argv[1], '-I', '-S', '-c', 'print(1, flush=True); import time; time.sleep(1000)'],\n"
        "    uid=54321, gid=54321, keep=[Path(sys.base_prefix)], fds=[]), stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); import time; time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, os.path.realpath(sys.executable)], stdout=subprocess.PIPE, text=True)
    pidfd = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)
