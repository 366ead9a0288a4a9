"""The supervisor over small real children: what dies is started again, what is told to stop has ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from ondol.node import supervisor as module
from ondol.node.supervisor import Child, Supervisor

#: A child that notes what it is told, in a file; argv: fd, file, what to do.
SOURCE = """
import array, json, os, signal, socket, sys, time
line, path, act = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3]
def note(**facts):
    with open(path, "a") as file:
        file.write(json.dumps(facts) + chr(10))
if act == "die":
    sys.exit(3)
def tidy(*_):
    note(tidied=True)
    sys.exit(0)
if act == "tidy":
    signal.signal(signal.SIGTERM, tidy)
if act == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note(pid=os.getpid(), stdin=os.readlink("/proc/self/fd/0"), fds=len(os.listdir("/proc/self/fd")))
while act != "deaf":
    data, ancillary, _, _ = line.recvmsg(65536, socket.CMSG_SPACE(32))
    if not data:
        note(end=True)
        break
    fds = array.array("i")
    for _, _, payload in ancillary:
        fds.frombytes(payload)
    note(told=json.loads(data), fds=len(fds), at=time.monotonic())
    if "stop" in json.loads(data):
        break
    if act == "tidy":
        time.sleep(1000)
time.sleep(1000 if act == "deaf" else 0)
"""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Story:
    """Runs a supervisor in the main thread while a script does things to it in another."""

    def __init__(self, tmp_path):
        self.path = tmp_path
        self.said = []

    def child(self, name, act="listen", **more):
        return Child(
            name=name, command=lambda fd: [sys.executable, "-S", "-c", SOURCE, str(fd), str(self.path / name), act], **more
        )

    def run(self, children, script, stop_s_max=5.0):
        supervisor = Supervisor(children, stop_s_max=stop_s_max, log=self.said.append, env={"PATH": os.defpath})
        failures = []

        def meanwhile():
            try:
                script(supervisor)
            except BaseException as error:
                failures.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=meanwhile)
        # A signal that comes when the supervisor has ended already must not end the tests.
        before = {number: signal.signal(number, self.late) for number in ENDING}
        try:
            supervisor.run(thread.start)
            thread.join()
            assert all(signal.getsignal(number) == self.late for number in ENDING)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if failures:
            raise failures[0]
        return supervisor

    def late(self, number, frame):
        """Nothing is left to end."""

    def notes(self, name):
        path = self.path / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def pids(self, name):
        return [note["pid"] for note in self.notes(name) if "pid" in note]

    def until(self, condition):
        end_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end_s, "it did not come to that"
            time.sleep(0.005)


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path)


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


def test_children_get_their_settings_their_lines_and_the_word_to_stop(story):
    front, keeper = story.child("front", settings={"a": 1}, lines=("keeper",)), story.child("keeper")
    story.run(
        [keeper, front], lambda _: story.until(lambda: len(story.notes("front")) >= 3 and len(story.notes("keeper")) >= 2)
    )
    told = [(note["told"], note["fds"]) for note in story.notes("front") if "told" in note]
    assert told[:2] == [({"a": 1}, 0), ({"line": "keeper"}, 1)]
    assert list(told[-1][0]) == ["stop"]
    assert [note["told"] for note in story.notes("keeper") if "told" in note][0] == {"line": "front"}
    assert all(gone(pid) for name in ("front", "keeper") for pid in story.pids(name))


def test_children_have_no_input_and_only_the_descriptors_meant_for_them(story):
    story.run([story.child("one"), story.child("two")], lambda _: story.until(lambda: story.pids("one") and story.pids("two")))
    for name in ("one", "two"):
        first = story.notes(name)[0]
        assert first["stdin"] == "/dev/null"
        assert first["fds"] == 5  # three, the line, and the listing itself


def test_the_fronts_are_asked_first_and_the_others_when_they_have_ended(story):
    names = ("desk", "front-1", "front-2")
    children = [story.child(name, ends_first=name != "desk") for name in names]
    story.run(children, lambda _: story.until(lambda: all(story.pids(name) for name in names)))
    at = {name: next(note["at"] for note in story.notes(name) if "stop" in note.get("told", {})) for name in names}
    assert max(at["front-1"], at["front-2"]) < at["desk"]


def test_fronts_that_end_slowly_are_asked_all_at_once(story):
    names = ("front-1", "front-2")

    def script(_):
        story.until(lambda: all(story.pids(name) for name in names))

    story.run([story.child(name, "tidy", ends_first=True) for name in names], script, stop_s_max=module.LAST_S + 0.5)
    for name in names:
        assert [note["told"]["stop"] for note in story.notes(name) if "told" in note] == [0.0]


def test_who_dies_is_started_again_and_both_ends_get_a_fresh_line(story):
    def script(_):
        story.until(lambda: len(story.notes("front")) >= 2 and story.pids("keeper"))
        os.kill(story.pids("keeper")[0], signal.SIGKILL)
        story.until(lambda: len(story.pids("keeper")) == 2 and len(story.notes("front")) >= 3)

    story.run([story.child("keeper"), story.child("front", lines=("keeper",))], script)
    assert [note["told"] for note in story.notes("front") if "line" in note.get("told", {})] == [{"line": "keeper"}] * 2
    assert story.said == ["the keeper ended (signal 9); starting it again"]
    assert len(story.pids("front")) == 1


def test_who_keeps_dying_is_started_with_growing_pauses(story, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S_MIN", 0.01)
    pauses = []
    true = Supervisor._postpone

    def postpone(self, life):
        pauses.append(life.pause_s)
        true(self, life)

    monkeypatch.setattr(Supervisor, "_postpone", postpone)
    story.run([story.child("bad", "die")], lambda _: story.until(lambda: len(story.said) >= 4))
    assert all(later == 2 * earlier for earlier, later in zip(pauses, pauses[1:], strict=False))
    assert story.said[0] == "the bad ended (status 3); starting it again"


def test_who_lived_long_is_started_again_at_once(story, monkeypatch):
    monkeypatch.setattr(module, "HEALTHY_S", 0.0)
    story.run([story.child("bad", "die")], lambda _: story.until(lambda: len(story.said) >= 4))


def test_a_child_that_cannot_be_started_again_for_now_is_tried_later(story, monkeypatch):
    true, fails = module.subprocess.Popen, [OSError(11, "Resource temporarily unavailable")]

    def script(_):
        story.until(lambda: story.pids("one"))
        monkeypatch.setattr(module.subprocess, "Popen", lambda *a, **k: _raise(fails.pop()) if fails else true(*a, **k))
        os.kill(story.pids("one")[0], signal.SIGKILL)
        story.until(lambda: len(story.pids("one")) == 2)

    story.run([story.child("one")], script)
    assert "could not be started (Resource temporarily unavailable); trying again" in story.said[1]


def _raise(error):
    raise error


def test_a_child_that_cannot_be_started_at_all_is_said_at_once_and_the_others_end(story):
    missing = Child(name="two", command=lambda _fd: ["/nonexistent"])
    supervisor = Supervisor([story.child("one"), missing], stop_s_max=5, log=story.said.append, env={})
    with pytest.raises(FileNotFoundError):
        supervisor.run(lambda: None)
    assert supervisor.pids() == {}


@pytest.mark.parametrize("number", ENDING)
def test_any_usual_signal_ends_it_and_a_second_one_changes_nothing(story, number):
    def script(_):
        story.until(lambda: story.pids("front"))
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    story.run([story.child("front")], script)
    assert "stop" in story.notes("front")[-1]["told"]


def test_whoever_does_not_stop_is_killed_in_time(story):
    began = []

    def script(_):
        story.until(lambda: story.pids("front") and story.pids("desk"))
        began.append(time.monotonic())

    story.run([story.child("front", "deaf"), story.child("desk", "deaf")], script, stop_s_max=0.5)
    assert time.monotonic() - began[0] < 10  # and not the thousand seconds they sleep
    assert all(gone(pid) for name in ("front", "desk") for pid in story.pids(name))


def test_whoever_tidies_up_is_asked_to_when_the_time_is_over_and_not_killed(story):
    def script(_):
        story.until(lambda: story.pids("keeper"))

    story.run([story.child("keeper", "tidy", settings={"busy": True}, tidies=True)], script, stop_s_max=0.5)
    assert story.notes("keeper")[-1] == {"tidied": True}
    assert gone(story.pids("keeper")[0])


def test_a_stop_before_anyone_is_up_ends_all(story):
    story.run([story.child("front"), story.child("desk"), story.child("bad", "die")], lambda _: None)
    assert all(gone(pid) for name in ("front", "desk") for pid in story.pids(name))


def test_the_time_told_leaves_some_for_putting_away(story):
    front = story.child("front", ends_first=True)
    story.run([front], lambda _: story.until(lambda: story.pids("front")), stop_s_max=module.END_S + 4)
    assert 3.0 < story.notes("front")[-1]["told"]["stop"] <= 4.0


def test_nothing_stays_open(story):
    before = sorted(os.listdir("/proc/self/fd"))

    def script(_):
        story.until(lambda: story.pids("one"))
        os.kill(story.pids("one")[0], signal.SIGKILL)
        story.until(lambda: len(story.pids("one")) == 2)

    story.run([story.child("one"), story.child("two", lines=("one",))], script)
    assert sorted(os.listdir("/proc/self/fd")) == before
