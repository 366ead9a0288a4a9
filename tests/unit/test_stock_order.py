"""In what order a keeper is asked for shells: by a keeper that is only the other end of its line."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from ondol.sandboxes import kept
from ondol.sandboxes.kept import KeptSandboxes

_MADE = {"namespaces": [], "cgroups": 0, "files": [], "freezes": False, "bounds": []}


@pytest.fixture
def line():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with theirs:
        yield ours, theirs


def asked(keeper):
    """The numbers of the shells asked for that were not looked at yet."""
    numbers = []
    while True:
        try:
            message = json.loads(keeper.recv(65536))
        except BlockingIOError:
            return numbers
        assert message["op"] == "prepare"
        numbers.append(message["n"])


def made(keeper, number):
    keeper.send(json.dumps({"n": number, "ok": _MADE}).encode())


async def a_while():
    """Longer than the stock waits before it is filled."""
    await asyncio.sleep(2 * kept.REFILL_AFTER_S)


async def test_a_shell_that_somebody_waits_for_is_asked_for_before_any_of_the_stock(line):
    ours, keeper = line
    sandboxes = KeptSandboxes(ours, stock_shells=2)
    waiting = [asyncio.create_task(sandboxes.prepare("a1")) for _ in range(3)]
    await a_while()
    first = asked(keeper)
    assert len(first) == 3, "one for each who waits, none for the stock"
    for number in first[:2]:
        made(keeper, number)
    await a_while()
    assert asked(keeper) == [], "one still waits"
    made(keeper, first[2])
    await asyncio.gather(*waiting)
    await a_while()
    assert len(refill := asked(keeper)) == 1, "the stock is filled one by one"
    late = asyncio.create_task(sandboxes.prepare("a1"))
    await a_while()
    assert len(theirs := asked(keeper)) == 1
    made(keeper, refill[0])
    await a_while()
    assert asked(keeper) == [], "the next of the stock comes after who came meanwhile"
    made(keeper, theirs[0])
    await late
    await a_while()
    assert len(asked(keeper)) == 1
    await sandboxes.close()


async def test_who_gives_up_waiting_does_not_keep_the_stock_from_being_filled(line):
    ours, keeper = line
    sandboxes = KeptSandboxes(ours, stock_shells=1)
    waiting = asyncio.create_task(sandboxes.prepare("a1"))
    await a_while()
    assert len(asked(keeper)) == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await a_while()
    assert len(asked(keeper)) == 1
    await sandboxes.close()
