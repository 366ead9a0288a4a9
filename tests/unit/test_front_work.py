"""Small work of the front."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ondol.core.catalog import Index, put
from ondol.model.errors import StartFailed
from ondol.model.functions import Pin, Version
from ondol.model.principals import Kind
from ondol.node.front_work import Warmer, minting, pinning, retiring
from ondol.store import Change
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import a_target


class Pool:
    def __init__(self):
        self.retired = []
        self.replaced = []

    def retire(self, revision):
        self.retired.append(revision)

    def replace(self, before, revision, ahead_max):
        self.replaced.append((before, revision.id, ahead_max))

    def bound(self, wanted):
        self.bounds = {revision: most for revision, (_, most) in wanted.items()}

    def pin(self, wanted):
        self.pinned = {revision: count for revision, (_, count) in wanted.items()}


def following():
    index, pool = Index(), Pool()
    index.listeners.append(retiring(pool, index))
    return index, pool


def write(index, *nouns):
    for noun in nouns:
        made = put(noun)
        index.apply(Change(index.number + 1, made.key, made.value))


def test_the_revision_that_an_update_replaces_leaves_the_pool():
    index, pool = following()
    function = a_target().function
    write(index, function, replace(function, tags={"a": "b"}))
    assert pool.retired == []
    write(index, replace(function, latest="r2"))
    assert pool.retired == [function.latest]


@pytest.mark.parametrize("reserved", [None, 0, 3])
def test_a_revision_that_is_replaced_makes_place_for_its_heir_when_that_is_ready(reserved):
    index, pool = following()
    target = a_target(revision="r1")
    write(index, target.revision, replace(target.function, concurrency_reserved=reserved))
    heir = replace(target.revision, id="r2")
    write(index, heir, replace(target.function, latest="r2", concurrency_reserved=reserved))
    index.apply(Change(index.number + 1, put(target.revision).key, None))
    assert (pool.replaced, pool.retired) == ([("r1", "r2", reserved)], [])
    index.apply(Change(index.number + 1, put(heir).key, None))
    assert pool.retired == ["r2"]


def test_what_is_called_by_its_versions_only_has_no_heir():
    index, pool = following()
    target = a_target(revision="r1")
    function = replace(target.function, versions_only=True)
    write(index, target.revision, function, replace(target.revision, id="r2"), replace(function, latest="r2"))
    assert (pool.replaced, pool.retired) == ([], ["r1"])


def test_what_is_removed_leaves_the_pool():
    index, pool = following()
    target = a_target()
    write(index, target.function, target.revision)
    for noun in (target.function, target.revision):
        index.apply(Change(index.number + 1, put(noun).key, None))
    assert set(pool.retired) == {target.revision.id}


@pytest.mark.parametrize(("fronts", "each"), [(1, 3), (2, 2), (3, 1), (5, 1)])
async def test_each_front_keeps_its_part_of_what_is_pinned_and_never_none(fronts, each):
    index, pool, target = Index(), Pool(), a_target()
    index.listeners.append(pinning(pool, index, fronts))
    write(index, target.function, target.revision, Pin(function=target.function.id, qualifier=None, environments=3))
    await asyncio.sleep(0)
    assert pool.pinned == {target.revision.id: each}


def test_a_functions_credentials_are_its_own():
    target = a_target(annotations={"x": {"Role": "the-role"}})

    class Minter:
        def mint(self, principal, *, now_s):
            self.principal, self.now_s = principal, now_s
            return type("Made", (), {"access_key_id": "i", "secret": "s", "session_token": "t"})

    minter = Minter()
    assert minting(minter, VirtualClock())(target.revision, "e" * 32) == ("i", "s", "t")
    who = minter.principal
    assert (who.kind, who.name, who.role, who.account, who.environment) == (
        Kind.FUNCTION,
        target.function.id,
        "the-role",
        target.function.account,
        "e" * 32,
    )
    assert minter.now_s == VirtualClock().wall_s()


class Choice:
    def __init__(self, found=True):
        self.found = type("Python", (), {"path": "/usr/bin/python3"}) if found else None

    def newest(self):
        return self.found

    def carrier(self, runtime):
        return self.found


class Stock:
    """Notes what it is asked to keep ready."""

    def __init__(self, error=None):
        self.asked = []
        self.error = error

    async def stock(self, account, interpreter, network, told=b""):
        self.asked.append((account, interpreter, network))
        if self.error:
            raise self.error


async def warmed(stock, choice=None, *, catalog_read=True):
    warmer = Warmer(stock, choice or Choice(), ["egress", "none"], account="1", runtime="python3.11")
    catalog = asyncio.Event()
    if catalog_read:
        catalog.set()
    task = asyncio.create_task(warmer.serve(catalog))
    for _ in range(5):
        await asyncio.sleep(0)
    return warmer, task


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_front_is_ready_once_the_node_s_own_interpreter_is_warm():
    stock = Stock()
    warmer, task = await warmed(stock)
    assert stock.asked and warmer.ready.is_set()
    await ended(task)


async def test_a_front_is_not_ready_before_it_knows_the_catalog():
    warmer, task = await warmed(Stock(), catalog_read=False)
    assert not warmer.ready.is_set()
    await ended(task)


async def test_what_a_new_function_needs_is_warmed_while_it_is_deployed():
    stock = Stock()
    warmer, task = await warmed(stock)
    before = len(stock.asked)
    revision = a_target("another").revision
    warmer.listen("revision/f/r", replace(revision, account="2"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert {(account, network) for account, _, network in stock.asked[before:]} >= {("2", "egress")}
    await ended(task)


async def test_a_network_of_its_own_is_warmed_for_a_function_that_asks_and_none_that_the_node_does_not_give():
    stock = Stock()
    warmer, task = await warmed(stock)
    for number, network in enumerate(("none", "host")):
        revision = a_target("another", network=network).revision
        warmer.listen(f"revision/f/{number}", replace(revision, account="3"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert {network for account, _, network in stock.asked if account == "3"} == {"none"}
    await ended(task)


async def test_what_cannot_be_warmed_is_a_line_in_the_log_and_no_reason_to_be_away(caplog):
    warmer, task = await warmed(Stock(StartFailed("no more pids")))
    assert warmer.ready.is_set() and "no more pids" in caplog.text
    await ended(task)


async def test_without_any_interpreter_a_front_is_ready_all_the_same():
    stock = Stock()
    warmer, task = await warmed(stock, Choice(found=False))
    assert warmer.ready.is_set() and not stock.asked
    await ended(task)


async def test_each_front_has_its_part_of_what_there_may_be():
    index, pool, target = Index(), Pool(), a_target()
    index.listeners.append(pinning(pool, index, 2))
    version = Version(function=target.function.id, number=1, revision=target.revision.id)
    bound = Pin(function=target.function.id, qualifier="1", environments=1, environments_max=5, aside=False)
    write(index, target.function, target.revision, version, bound)
    await asyncio.sleep(0)
    assert (pool.bounds, pool.pinned) == ({target.revision.id: 3}, {target.revision.id: 1})
