"""What is kept of the disk for the node, on a disk and a clock of the test's own: who is ended for it, and when."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from ondol.keeper import reserve
from ondol.keeper.loop import Sleep

MIB = 1 << 20
RESERVE_MIB = 256


class World:
    """A disk, shells by what they hold in MiB, and a loop that goes on when told so."""

    def __init__(self, monkeypatch, left_mib, **holds_mib):
        self.left_mib = left_mib
        self.holds_mib = holds_mib
        #: As last counted.
        self.counted = dict.fromkeys(holds_mib, 0)
        self.ended: list[str] = []
        self.looked_after_s: list[float] = []
        #: Shells whose files have not gone yet.
        self._going: list[str] = []
        self._now_s = 100.0
        self._timers: list = []
        monkeypatch.setattr(reserve, "time", SimpleNamespace(monotonic=lambda: self._now_s))
        monkeypatch.setattr(reserve, "os", SimpleNamespace(statvfs=self._statvfs, scandir=os.scandir))
        self.kept = reserve.Reserve(self, "/there", RESERVE_MIB)
        self.kept.watch({name: name for name in holds_mib}, lambda name: self.counted[name] * MIB, self._end, self.count)

    def count(self):
        self.counted = dict(self.holds_mib)

    def _statvfs(self, directory):
        assert directory == "/there"
        return SimpleNamespace(f_bavail=self.left_mib * 256, f_frsize=4096)

    def _end(self, name):
        if name in self.ended:
            return None
        self.ended.append(name)
        self._going.append(name)
        return self._until_gone(name)

    def _until_gone(self, name):
        while name in self._going:
            yield Sleep(0.001)

    def gone(self, name):
        self.left_mib += self.holds_mib[name]
        self._going.remove(name)

    # The loop's part
    def later(self, seconds, callback):
        self._timers.append((self._now_s + seconds, callback))
        self.looked_after_s.append(seconds)

    def spawn(self, step):
        try:
            wanted = next(step)
        except StopIteration:
            return
        self._timers.append((self._now_s + wanted.seconds, lambda: self.spawn(step)))

    def go_on(self, seconds):
        until_s = self._now_s + seconds
        while due := [timer for timer in self._timers if timer[0] <= until_s]:
            timer = min(due, key=lambda each: each[0])
            self._timers.remove(timer)
            self._now_s = max(self._now_s, timer[0])
            timer[1]()
        self._now_s = until_s

    def write(self, name, mib):
        self.holds_mib[name] += mib
        self.left_mib -= mib


def test_with_room_enough_nobody_is_ended_and_shells_are_made(monkeypatch):
    world = World(monkeypatch, RESERVE_MIB, a=900)
    world.count()
    world.go_on(5)
    assert world.ended == []
    world.kept.check()


def test_under_the_reserve_no_shell_is_made(monkeypatch):
    world = World(monkeypatch, RESERVE_MIB - 1)
    with pytest.raises(OSError, match="255 MiB left, and 256 MiB are kept for the node") as caught:
        world.kept.check()
    assert caught.value.errno == errno.ENOSPC


def test_the_largest_holder_is_ended_and_the_next_only_when_that_did_not_help(monkeypatch):
    world = World(monkeypatch, RESERVE_MIB - 1, a=20, b=50, c=30)
    world.count()
    world.go_on(0.1)
    assert world.ended == ["b"]
    world.left_mib -= 60
    world.go_on(20)
    assert world.ended == ["b"]  # what it held is on its way
    world.gone("b")
    world.go_on(reserve.FREED_S_MAX + 0.2)
    assert world.ended == ["b", "c"]
    world.gone("c")
    world.left_mib = RESERVE_MIB
    world.go_on(5)
    assert world.ended == ["b", "c"]


def test_who_holds_little_is_not_ended_for_what_is_somebody_elses(monkeypatch):
    world = World(monkeypatch, 10, a=15)
    world.count()
    world.go_on(10)
    assert world.ended == []


def test_with_half_of_the_reserve_gone_and_more_going_the_next_is_ended_at_once(monkeypatch):
    world = World(monkeypatch, RESERVE_MIB - 1, a=90, b=80, c=70)
    world.count()
    world.go_on(0.1)
    assert world.ended == ["a"]
    world.write("b", RESERVE_MIB // 2)
    world.go_on(reserve.INTERVAL_S)
    assert world.ended == ["a", "b"]
    world.go_on(10)
    assert world.ended == ["a", "b"]  # nothing falls any more: what the two hold is waited for


def test_while_the_disk_falls_fast_it_is_looked_at_more_often_and_what_each_holds_is_counted(monkeypatch):
    world = World(monkeypatch, RESERVE_MIB + 300, a=0, b=0)
    world.go_on(1)
    assert set(world.looked_after_s) == {reserve.INTERVAL_S} and world.counted == {"a": 0, "b": 0}
    world.write("a", 1)  # 20 MiB a second: the reserve is far
    world.go_on(reserve.INTERVAL_S)
    assert world.looked_after_s[-1] == reserve.INTERVAL_S and world.counted["a"] == 0
    world.write("a", 100)
    world.go_on(reserve.INTERVAL_S)
    assert world.looked_after_s[-1] == reserve.HURRIED_S and world.counted["a"] == 101
    world.write("b", 220)
    world.go_on(reserve.HURRIED_S)
    assert world.ended == ["b"]


def test_a_reserve_of_nothing_is_not_looked_after(monkeypatch):
    monkeypatch.setattr(reserve, "os", SimpleNamespace(statvfs=lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096)))
    timers: list[float] = []
    loop = SimpleNamespace(later=lambda seconds, _: timers.append(seconds))
    nothing = reserve.Reserve(loop, "/there", 0)
    nothing.watch({}, int, lambda _: None, lambda: None)
    nothing.check()
    assert timers == []
