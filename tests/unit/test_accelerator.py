"""The accelerator: chosen in one place, at work for the usual request, and missed by nobody who has no compiler.

That it does what Python does is tested where that is (`both_ways` in conftest.py) and by tests/fuzz/fuzzing/hot.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ondol import accelerator
from ondol.accelerator import Hot, hot
from ondol.node.children import INHERITED
from ondol.node.examining import _accelerator as finding
from ondol.pool.alarm import Alarm
from ondol_guest import frames

ROOT = Path(__file__).parents[2]
REQUEST = b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: here\r\nUser-Agent: x\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def module():
    found = accelerator.built()
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"the accelerator was not built: {accelerator.mend()}")
    assert found is not None
    return found


def test_the_usual_request_is_taken_as_a_whole(module):
    method, target, headers, index, body = module.take_request(REQUEST)
    assert (method, target, body) == ("POST", "/2015-03-31/functions/f/invocations", b"{}")
    assert headers == [("host", "here"), ("user-agent", "x"), ("content-length", "2")]
    assert index == dict(headers)


@pytest.mark.parametrize(
    "unusual",
    [
        REQUEST[:-1],
        REQUEST + b"G",
        REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        REQUEST.replace(b"Host: here\r\n", b""),
        REQUEST.replace(b"Host: here\r\n", b"Host: here\r\nHost: there\r\n"),
        REQUEST.replace(b"User-Agent: x", b"Transfer-Encoding: chunked"),
        REQUEST.replace(b"User-Agent: x", b"Expect: 100-continue"),
        REQUEST.replace(b"User-Agent: x", b"Connection: close"),
        REQUEST.replace(b"User-Agent: x", b"User-Agent:"),
        REQUEST.replace(b"User-Agent: x", b"User-Agent: \xe9"),
        REQUEST.replace(b"\r\n", b"\n"),
        REQUEST.replace(b"Content-Length: 2", b"Content-Length: +2"),
        b"PATCH" + REQUEST[4:],
        b"",
    ],
)
def test_everything_else_is_left_to_python(module, unusual):
    assert module.take_request(unusual) is None
    assert Hot().take_request(REQUEST) is None


@pytest.mark.parametrize("anywhere", [True, False], ids=["portable", "by the processor"])
def test_hashes_and_signatures_are_those_of_hashlib(module, anywhere):
    try:
        module.choose(anywhere)
        for size in range(0, 300):
            data = bytes(range(256)) * 2
            assert module.sha256(data[:size]) == hashlib.sha256(data[:size]).hexdigest()
        key = hashlib.sha256(b"key").digest()
        text = f"AWS4-HMAC-SHA256\nstamp\nday/region/lambda/aws4_request\n{hashlib.sha256(b'requestUNSIGNED').hexdigest()}"
        right = hmac.digest(key, text.encode(), "sha256").hex()
        scope = ("stamp", "day", "region", "lambda")
        assert module.holds(module.keyed(key), "request", "UNSIGNED", *scope, right) is True
        for wrong in (right[:-1] + "g", right.upper(), right[:-1], "", right + "0"):
            assert module.holds(module.keyed(key), "request", "UNSIGNED", *scope, wrong) is (wrong == right)
        assert module.holds(None, "request", "UNSIGNED", *scope, right) is None
    finally:
        module.choose(False)


def test_a_result_that_comes_alone_is_taken_and_no_other_frame(module):
    whole = frames.pack_meta(frames.RESULT, 2**64 - 1, b"", b"{}", frames.ERROR)
    assert module.take_result(whole) == (frames.ERROR, 2**64 - 1, b"{}")
    others = [
        whole[:-1],
        whole + b"x",
        b"\2" + whole[1:],
        frames.pack(frames.READY, 0, b"{}"),
        frames.pack(frames.RESULT, 1, b"{}"),
    ]
    others += [frames.pack_meta(frames.RESULT, 1, {"a": 1}, b""), frames.pack_meta(frames.RESULT, 1, b"", b"x", frames.MORE)]
    assert [module.take_result(other) for other in others] == [None] * len(others)


def test_a_variable_switches_it_off_for_a_whole_node(module):
    assert accelerator.VARIABLE in INHERITED
    show = "from ondol import accelerator; print(accelerator.hot.built, accelerator.state()[1])"
    for value, said in (("off", "False built, switched off by ONDOL_ACCELERATOR=off"), ("on", "True built, at work")):
        done = subprocess.run(
            [sys.executable, "-c", show], env={**os.environ, accelerator.VARIABLE: value}, capture_output=True, text=True
        )
        assert done.stdout.strip() == said, done.stderr


def test_one_built_for_other_code_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "ondol._hot", SimpleNamespace(EDITION=accelerator.EDITION + 1))
    monkeypatch.setattr("ondol._hot", sys.modules["ondol._hot"], raising=False)
    assert accelerator.built() is None


@pytest.mark.usefixtures("both_ways_here")
def test_doctor_says_which_it_is_and_how_to_get_it():
    found = finding()
    assert not found.needed
    assert found.ok == hot.built == (not found.mend)
    assert found.ok or "apt install" in found.mend or "unset" in found.mend


@pytest.fixture(params=[None, "module"])
def both_ways_here(request):
    was = accelerator.built() if hot.built else None
    hot.use(request.getfixturevalue("module") if request.param else None)
    yield
    hot.use(was)


# Building ------------------------------------------------------------------------------------------------------------------
def hook():
    sys.modules.setdefault("hatchling.builders.hooks.plugin.interface", SimpleNamespace(BuildHookInterface=object))
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler-anywhere"])
def test_without_a_compiler_nothing_is_built_and_nothing_is_printed(tmp_path, monkeypatch, capfd, compiler):
    monkeypatch.setenv("CC", compiler)
    assert hook().build(ROOT / "src/ondol/_hot.c", tmp_path / "_hot.so")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_with_one_the_module_is_built_without_a_warning(tmp_path, monkeypatch, capfd, module):
    monkeypatch.setenv("CC", f"{os.environ.get('CC', 'cc')} -Wall -Werror")
    assert hook().build(ROOT / "src/ondol/_hot.c", tmp_path / "_hot.so") == ""
    assert [made.name for made in tmp_path.iterdir()] == ["_hot.so"]
    assert capfd.readouterr() == ("", "")


# The alarm -----------------------------------------------------------------------------------------------------------------
async def test_an_alarm_rings_for_each_thing_once_in_the_order_of_their_times():
    rung = []
    alarm = Alarm(rung.append)
    alarm.set("late", 0.06)
    alarm.set("soon", 0.02)
    alarm.set("never", 0.03)
    alarm.set("moved", 0.01)
    alarm.set("moved", 0.04)
    alarm.clear("never")
    alarm.clear("never")
    await asyncio.sleep(0.2)
    assert rung == ["soon", "moved", "late"]


async def test_a_thing_may_be_set_anew_while_it_rings_and_what_is_cleared_is_silent():
    rung = []

    def again(thing):
        rung.append(thing)
        if len(rung) < 3:
            alarm.set(thing, 0.005)

    alarm = Alarm(again)
    alarm.set("x", 0.005)
    await asyncio.sleep(0.2)
    assert rung == ["x"] * 3
    alarm.set("x", 0.005)
    alarm.clear("x")
    await asyncio.sleep(0.05)
    assert rung == ["x"] * 3


async def test_what_one_ring_clears_does_not_ring_and_what_it_sets_rings_in_time():
    rung = []

    def due(thing):
        rung.append(thing)
        if thing == "first":
            alarm.clear("second")
            alarm.set("late", 0.2)

    alarm = Alarm(due)
    alarm.set("first", 0.01)
    alarm.set("second", 0.01)
    alarm.set("soon", 0.03)
    await asyncio.sleep(0.12)
    assert rung == ["first", "soon"]
    await asyncio.sleep(0.3)
    assert rung == ["first", "soon", "late"]
