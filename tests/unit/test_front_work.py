"""Small work of the front."""

from __future__ import annotations

from dataclasses import replace

from ondol.core.catalog import Index, put
from ondol.model.errors import StartFailed
from ondol.model.principals import Kind
from ondol.node.front_work import minting, retiring, warm
from ondol.store import Change
from ondol.testing.clock import VirtualClock
from ondol.testing.pool import ScriptedSandboxes, a_target


class Pool:
    def __init__(self):
        self.retired = []

    def retire(self, revision):
        self.retired.append(revision)


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


def test_what_is_removed_leaves_the_pool():
    index, pool = following()
    target = a_target()
    write(index, target.function, target.revision)
    for noun in (target.function, target.revision):
        index.apply(Change(index.number + 1, put(noun).key, None))
    assert set(pool.retired) == {target.revision.id}


def test_a_functions_credentials_are_its_own():
    target = a_target(annotations={"x": {"Role": "the-role"}})

    class Minter:
        def mint(self, principal, *, now_s):
            self.principal, self.now_s = principal, now_s
            return type("Made", (), {"access_key_id": "i", "secret": "s", "session_token": "t"})

    minter = Minter()
    assert minting(minter, VirtualClock())(target.revision) == ("i", "s", "t")
    who = minter.principal
    assert (who.kind, who.name, who.role, who.account) == (
        Kind.FUNCTION,
        target.function.id,
        "the-role",
        target.function.account,
    )
    assert minter.now_s == VirtualClock().wall_s()


class Choice:
    def __init__(self, found=True):
        self.found = type("Python", (), {"path": "/usr/bin/python3"}) if found else None

    def newest(self):
        return self.found


async def test_warming_leaves_no_shell_taken():
    sandboxes = ScriptedSandboxes()
    await warm(sandboxes, Choice(), "1")
    assert (sandboxes.counts["prepare"], sandboxes.shells) == (1, {})


async def test_what_cannot_be_warmed_is_a_line_in_the_log(caplog):
    sandboxes = ScriptedSandboxes()
    sandboxes.errors["prepare"] = StartFailed("no more pids")
    await warm(sandboxes, Choice(), "1")
    await warm(sandboxes, Choice(found=False), "1")
    assert "no more pids" in caplog.text
