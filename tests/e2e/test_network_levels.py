"""The network of functions at the levels whose guests are started by another's tool: the same as the keeper's, tried again."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from ondol.keeper import gateways
from ondol.launcher import probe
from ondol.testing.internet import MACHINE, NAME, ROUTER, TOOLS, WEB, inside, world
from ondol.testing.keepers import USER, all_gone, kill
from ondol.testing.launchers import put_away, running_launcher, start_launcher
from ondol.testing.packages import need
from ondol.testing.suites.sandboxes import CHANGES

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]

OTHER_ACCOUNT = "111111111111"
TUN = Path("/dev/net/tun")
PACKAGES = {"bwrap": ("bubblewrap", "bwrap"), "crun": ("crun", "crun"), "gvisor": ("runsc", "runsc")}
PAGE = f"result = page({WEB!r})"


def missing(level):
    package, program = PACKAGES[level]
    need(package, program=program)
    found = probe.find([level])[level]
    return "" if found.ok else found.detail


def refused(reason):
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(params=list(PACKAGES))
def level(request):
    refused("needs root, to make a world" if os.geteuid() else missing(request.param))
    return request.param


#: One after the other as a user: they share the machine's tun device.
@pytest.fixture(params=[pytest.param(None, id="root"), pytest.param(USER, id="user", marks=pytest.mark.xdist_group("tun"))])
def who(request):
    if request.param is None:
        yield None
        return
    if not gateways.program():
        need("passt", program="pasta")
    refused("" if TUN.exists() else f"needs {TUN}")
    mode = stat.S_IMODE(TUN.stat().st_mode)  # an ordinary user may open it on most machines
    os.chmod(TUN, 0o666)
    yield request.param
    os.chmod(TUN, mode)


@pytest.fixture
async def earth():
    with world() as made:
        yield made


@pytest.fixture
async def launched(level, who, earth):
    async with running_launcher(level, who, on=earth) as running:
        yield running


async def shell(launched, **options):
    made = await launched.inside(**{"network": "egress", **options})
    await made.run(TOOLS)
    return made


async def test_the_world_is_reached_by_name_and_nothing_of_the_machine_is(launched, earth):
    """What listens there is reached by the world's side, so it does listen."""
    listeners = [earth.listen(earth.machine, "0.0.0.0", 7979), earth.listen(earth.machine, "127.0.0.1", 8080)]
    inside(earth.internet, lambda: socket.create_connection((MACHINE, 7979), 10).close())
    listeners[0].accept()[0].close()
    there = await shell(launched)
    assert await there.run(f"result = page({NAME!r})") == "hello"
    assert set(earth.visitors) == {MACHINE}
    addresses = [MACHINE, "127.0.0.1", "127.0.0.2", "0.0.0.0", "198.18.0.1", "localhost", "10.0.2.2", ROUTER]
    ports = [(address, port) for address in addresses for port in (7979, 8080)]
    assert await there.run(f"result = [a for a in {ports!r} if reached(a)]") == []
    places = ["169.254.169.254", "100.100.100.200", "168.63.129.16", "224.0.0.1"]
    earth.serve(earth.listen(earth.internet, "0.0.0.0", 8081), lambda sock: sock.accept()[0].close())
    assert await there.run(f"result = reached(({WEB!r}, 8081))")
    assert await there.run(f"result = [p for p in {places!r} if reached((p, 8081))]") == []
    for listener in listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_environments_reach_neither_each_other_nor_each_others_way_to_the_node(launched):
    one, other = await shell(launched), await shell(launched, account=OTHER_ACCOUNT)
    own = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('198.51.100.7', 9)); result = s.getsockname()[0]"
    address = await one.run(own)
    assert address.startswith("198.18.")
    await one.run(
        "held = [socket.create_server(('0.0.0.0', 4321)), socket.socket(1)]; held[1].bind('\\0ondol-test'); held[1].listen()"
    )
    assert await one.run(f"result = [reached(({address!r}, 4321)), reached('\\0ondol-test')]") == [True, True]
    tries = f"[(({address!r}, 4321), 1), (({address!r}, 9001), 1), ('\\0ondol-test', 1)]"
    assert await other.run(f"result = [t for t in {tries} if reached(*t)]") == []


async def test_a_function_cannot_change_its_network(launched):
    there = await shell(launched)
    changed = await there.run(CHANGES)
    assert changed == {}, changed


async def test_without_egress_nothing_but_the_node_is_there(launched, earth):
    there = await shell(launched, network="none")
    assert await there.run(f"result = reached(({WEB!r}, 80))") is False
    assert await there.run("result = [line.split(':')[0].strip() for line in open('/proc/net/dev')][2:]") == ["lo"]
    assert await there.run("result = reached(('127.0.0.1', 9001))")
    assert earth.visitors == []


async def test_who_is_started_again_has_the_same_way_out(launched):
    there = await shell(launched)
    await launched.sandboxes.scour(there.shell)
    again = await launched.fork_into(there.shell)
    await again.run(TOOLS)
    assert await again.run(PAGE) == "hello"


async def test_with_the_machines_network_names_are_asked_for_where_the_machine_asks(level, earth):
    async with running_launcher(level, None, on=earth) as launched:
        there = await shell(launched, network="host")
        assert "127.0.0.9" in await there.run("result = open('/etc/resolv.conf').read()")
        assert await there.run(PAGE) == "hello"


async def test_a_killed_launcher_leaves_nothing_of_its_network(level, earth):
    launched = start_launcher(level, None, on=earth)
    try:
        there = await shell(launched)
        assert await there.run(PAGE) == "hello"
        pids = launched.processes()
        kill(pids[1])
        assert await all_gone(pids[1:]) == []
        await launched.sandboxes.close()
        deadline = asyncio.get_running_loop().time() + 30
        while (left := devices(earth)) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.1)
        assert left == []
    finally:
        await put_away(launched)


def devices(earth):
    return inside(earth.machine, lambda: [name for _, name in socket.if_nameindex() if name.startswith("ond")])
