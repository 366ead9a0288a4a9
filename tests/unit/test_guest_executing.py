"""A forked child that becomes another program: what the program finds, and what the node hears when there is none."""

import asyncio
import json
import os
import stat
import sys

import pytest

from ondol.testing.pool import a_target
from ondol.model.errors import RuntimeMissing
from ondol.runtime import Launch
from ondol.runtimes.choice import Choice, Family
from ondol.runtimes.dispatch import Dispatch
from ondol.runtimes.interpreters import Interpreter, Interpreters
from ondol.testing.sandboxes import SOURCE, LocalSandboxes
from ondol_guest import frames

HERE = Interpreter(path=os.path.realpath(sys.executable), major=3, minor=sys.version_info[1], micro=0, prefix="/nowhere")


def program(tmp_path, text, name="bootstrap", mode=0o755):
    file = tmp_path / name
    file.write_text(text)
    file.chmod(mode)


async def executed(tmp_path, *more, **told):
    """(frames and bytes that came by the wire, the log, how it ended) of what a child became."""
    sandboxes = LocalSandboxes()
    try:
        shell = await sandboxes.prepare("1")
        await sandboxes.attach(shell, tree=str(tmp_path), memory_bytes=0, tmp_mib=0)
        zygote = await sandboxes.zygote("1", HERE.path)
        child = await zygote.fork(shell)
        told = {"argv": ["/var/task/bootstrap"], "variables": {}, "cwd": "/var/task", "memory_mib": 128, **told}
        os.set_blocking(child.wire, True)
        os.set_blocking(child.log, True)
        os.write(child.wire, frames.pack(frames.INIT, 0, json.dumps({"exec": told}).encode()) + b"".join(more))
        status = await child.wait()
        with open(child.wire, "rb") as wire, open(child.log, "rb") as log:
            return wire.read(), log.read().decode(), status
    finally:
        await sandboxes.close()


def run(*arguments, **told):
    async def bounded():
        async with asyncio.timeout(30):
            return await executed(*arguments, **told)

    return asyncio.run(bounded())


def test_the_program_has_the_variables_the_directory_and_the_log_and_nothing_more(tmp_path):
    program(
        tmp_path, '#!/bin/sh\nenv -u _ -u SHLVL -u PWD | sort\n/bin/pwd\necho "$@"\nls /proc/self/fd\necho bad >&2\nexit 3\n'
    )
    argv = ["/var/task/bootstrap", "one", "two"]
    wire, log, status = run(tmp_path, argv=argv, variables={"A": "1", "PATH": "/usr/bin:/bin"})
    assert (wire, status) == (b"", 3)
    # 3 is what `ls` reads the directory by.
    assert log.splitlines() == ["A=1", "PATH=/usr/bin:/bin", str(tmp_path), "one two", "0", "1", "2", "3", "bad"]


def test_the_program_dies_of_signals_as_any_other_does(tmp_path):
    program(tmp_path, "#!/bin/sh\nkill -PIPE $$\necho alive\n")
    _, log, status = run(tmp_path)
    assert (log, status) == ("", -13)


def test_a_kept_wire_carries_the_programs_own_init(tmp_path):
    text = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {SOURCE!r})
from ondol_guest import frames, guest
wire = guest.Wire(int(os.environ["_ONDOL_WIRE"]), guest.Log())
wire.send(frames.READY, 0, repr(guest.await_init(wire)).encode())
"""
    program(tmp_path, text)
    own = frames.pack(frames.INIT, 0, b'{"hello": "program"}')
    wire, log, status = run(tmp_path, own, wire=True)
    assert (log, status) == ("", 0)
    assert frames.FrameReader().feed(wire) == [(frames.READY, 0, 0, b"{'hello': 'program'}")]


def test_the_first_place_where_there_is_a_file_counts(tmp_path):
    program(tmp_path, "#!/bin/sh\necho second\n", name="second")
    (tmp_path / "bootstrap").mkdir()
    _, log, _ = run(tmp_path, instead=["/var/task/second"])
    assert log == "second\n"


@pytest.mark.parametrize(
    ("text", "mode", "errno", "status"),
    [(None, 0, 2, 127), ("#!/bin/sh\n", stat.S_IRUSR, 13, 126), ("echo no first line\n", 0o755, 8, 126)],
    ids=["missing", "not executable", "no program"],
)
def test_a_program_that_cannot_be_executed_is_told_of(tmp_path, text, mode, errno, status):
    if text is not None:
        program(tmp_path, text, mode=mode)
    wire, log, ended = run(tmp_path)
    (kind, _, _, payload) = frames.FrameReader().feed(wire)[0]
    meta, _ = frames.split_meta(payload)
    assert (kind, json.loads(meta)) == (frames.INIT_FAILED, {"exec": f"{tmp_path}/bootstrap", "errno": errno})
    assert (log, ended) == ("", status)
    wire, log, ended = run(tmp_path, wire=True)
    assert (wire, ended) == (b"", status)
    assert log == f"{tmp_path}/bootstrap: {os.strerror(errno)}\n"


# Which runtime launches ---------------------------------------------------------------------------------------------------


class Recorded:
    """`ondol.runtime.Runtime` that only says what it was."""

    def __init__(self, name):
        self.name = name

    async def start(self, shell, revision, launch, sink):
        return self.name


class Found:
    """A finder of a language of which one version is there."""

    def missing(self, runtime):
        return None if runtime == "nodejs20.x" else f"no {runtime}"

    def substitute_for(self, runtime):
        return None

    def describe(self, runtime):
        return "/usr/bin/node"


def launched(dispatch, runtime):
    launch = Launch(guest="aws", handler="a.b", runtime=runtime, variables={}, memory_mib=128, timeout_s=3)
    return asyncio.run(dispatch.start(None, a_target().revision, launch, lambda text, at_ms: None))


def test_a_runtime_id_is_launched_by_its_familys_runtime():
    choice = Choice(Interpreters([HERE]), others={Family.NODE: Found()})
    dispatch = Dispatch(choice, {Family.PYTHON: Recorded("python"), Family.NODE: Recorded("node")})
    assert launched(dispatch, HERE.name) == "python"
    assert launched(dispatch, "nodejs20.x") == "node"
    assert choice.carrier("nodejs20.x") == HERE
    assert choice.interpreter("nodejs20.x") is None
    for missing, why in (
        ("nodejs18.x", "no nodejs18.x"),
        ("java21", "not built"),
        ("go1.x", "retired"),
        ("cobol", "unknown"),
    ):
        assert choice.carrier(missing) is None
        assert why in choice.describe(missing)
        with pytest.raises(RuntimeMissing, match=why):
            launched(dispatch, missing)
