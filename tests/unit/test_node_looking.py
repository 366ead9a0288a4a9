"""What the node says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from ondol import config
from ondol.core.catalog import Index
from ondol.dialects.native.node import DoctorDocument, NodeRoutes, PoolStats, ProcessStats, StatsDocument
from ondol.dialects.native.operations import Asked
from ondol.dialects.native.table import TABLE
from ondol.model.principals import AccessKey, Kind, Principal
from ondol.node import looking
from ondol.node.orders import Orders
from ondol.pool.driver import Stats
from ondol.queue import QueueSize

NUMBERS = {
    "starting": 1, "idle": 2, "busy": 3, "stopping": 0, "frozen": 1, "waiting": 4,
    "memory_mib": 640, "memory_mib_max": 1024,
    "cold_starts": 9, "failed_starts": 1,
}  # fmt: skip


class Fronts:
    def __init__(self, *answers):
        self.answers = answers

    async def ask(self, name, value, seconds_max):
        assert (name, seconds_max) == (looking.STATS, looking.FRONT_S_MAX)
        return list(self.answers)


async def size():
    return QueueSize(waiting=5, waiting_bytes=100, dead=2)


def asked():
    return Asked(
        operation=TABLE.all[0], request=None, request_id="r", path={},
        principal=Principal(kind=Kind.OWNER, account="1", region="here", name="x"),
    )  # fmt: skip


def orders(tmp_path, **environ):
    return Orders(
        settings=config.load(environ={"ONDOL_DATA": str(tmp_path), **environ}),
        key=AccessKey(id="AKIA", secret="the-secret", account="1", created_s=1.5), secret=b"master",
        endpoint="http://127.0.0.1:7", sockets={},
        interpreters=[{"path": "/usr/bin/python3.11", "major": 3, "minor": 11, "micro": 2, "prefix": "/usr"}],
        isolation=[{"what": "namespaces", "ok": True, "needed": True, "detail": "can be made", "mend": "", "means": ""}],
    )  # fmt: skip


def routes(tmp_path, *answers, given=None):
    given = given or orders(tmp_path)
    return NodeRoutes(
        stats=looking.stats(Index(), Fronts(*answers), size, os.getpid()),
        doctor=looking.doctor(given, tmp_path, os.getpid(), lambda _: ""),
        settings=lambda: looking.settings(given.settings),
        declared=TABLE,
        version="1",
    )


async def test_numbers_of_all_fronts_are_summed(tmp_path):
    found = await routes(tmp_path, NUMBERS, NUMBERS).stats(asked())
    assert isinstance(found, StatsDocument)
    assert (found.pool.busy, found.pool.waiting, found.pool.memory_mib_max) == (6, 8, 2048)
    assert (found.queue.waiting, found.queue.dead, found.functions) == (5, 2, 0)
    assert found.uptime_s > 0


async def test_without_a_front_the_rest_is_told(tmp_path):
    assert (await routes(tmp_path).stats(asked())).pool is None


def test_the_pools_numbers_are_the_documents():
    assert set(Stats.__dataclass_fields__) == set(PoolStats.__struct_fields__)


async def test_the_front_tells_its_pools_numbers():
    @dataclass
    class Numbers:
        idle: int

    told = looking.telling(lambda: Numbers(7), dict)
    assert await told[looking.STATS](None, None) == {"idle": 7}


def test_this_process_is_found_by_its_id():
    found = looking.family(os.getpid())
    own = next(process for process in found if process["pid"] == os.getpid())
    assert set(own) == set(ProcessStats.__struct_fields__)
    assert own["role"] == "supervisor"
    assert own["rss_bytes"] > 1_000_000
    assert own["threads"] >= 1


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ([b"/usr/bin/python3", b"-P", b"-m", b"ondol.app", b"desk", b"7"], "desk"),
        ([b"/usr/bin/python3", b"-I", b"-S", b"/x/ondol/keeper/__main__.py", b"--data"], "keeper"),
        ([b"/bin/sh"], ""),
        ([b""], ""),
        ([], ""),
    ],
)
def test_a_childs_role_stands_on_its_command_line(words, role):
    assert looking.role_of(words) == role


async def test_the_doctor_says_what_the_start_found_and_how_the_disk_is_now(tmp_path):
    found = await routes(tmp_path).doctor(asked())
    assert isinstance(found, DoctorDocument)
    assert found.able
    shown = {(each.part, each.what): each for each in found.findings}
    assert shown["isolation", "namespaces"].detail == "can be made"
    assert shown["interpreters", "python3.11"].detail == "/usr/bin/python3.11 (3.11.2)"
    assert shown["host", "node"].detail == "runs at http://127.0.0.1:7"
    assert shown["disk", "data directory"].ok


async def test_settings_are_told_with_where_they_were_read(tmp_path):
    given = orders(tmp_path, ONDOL_IDLE_S_MAX="77")
    given = Orders.of(given.message())  # as a child gets them
    shown = {each.name: each for each in (await routes(tmp_path, given=given).settings(asked())).settings}
    assert set(shown) == {spec.name for spec in config.SPECS}
    assert (shown["idle_s_max"].value, shown["idle_s_max"].source) == (77, "ONDOL_IDLE_S_MAX")
    assert (shown["data"].value, shown["region"].source) == (str(tmp_path), "default")
    assert "secret" not in repr(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://me:pass@word@host:4318/v1", "http://***@host:4318/v1"),
        ("http://host/path@x", "http://host/path@x"),
        ("me@example.com", "me@example.com"),
        (("http://a:b@c", "d"), ["http://***@c", "d"]),
        (7, 7),
        (True, True),
        (2.5, 2.5),
        (None, None),
    ],
)
def test_who_signs_in_with_an_address_is_not_shown(value, shown):
    assert looking.shown_of(value) == shown
