"""`egress`: the world is reached, and nothing of the machine, of other environments, or of what is not the world's.

The world is the test's own (`ondol.testing.internet`); the keeper and its shells run on a machine in it, as root and as an
ordinary user.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from ondol.keeper import gateways, netlink
from ondol.testing.internet import LONG_NAME, MACHINE, NAME, ROUTER, TOOLS, WEB, inside, world
from ondol.testing.keepers import USER, all_gone, kill, put_away, restart, running_keeper, start_keeper, why_not
from ondol.testing.packages import need

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]

OTHER_ACCOUNT = "111111111111"
TUN = Path("/dev/net/tun")


#: One after the other as a user: they share the machine's tun device.
@pytest.fixture(params=[pytest.param(None, id="root"), pytest.param(USER, id="user", marks=pytest.mark.xdist_group("tun"))])
def who(request):
    """Whose keeper it is; skips where there can be none, or no way out for it."""
    reason = why_not(request.param) or ("needs root, to make a world" if os.geteuid() else "")
    if not reason and request.param is not None:
        reason = _no_program()
    if reason:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    if request.param is None:
        yield request.param
        return
    mode = stat.S_IMODE(TUN.stat().st_mode)  # an ordinary user may open it on most machines
    os.chmod(TUN, 0o666)
    yield request.param
    os.chmod(TUN, mode)


def _no_program():
    if not gateways.program():
        need("passt", program="pasta")
    return "" if TUN.exists() else f"needs {TUN}"


@pytest.fixture
async def earth():
    with world() as made:
        yield made


@pytest.fixture
async def kept(who, earth):
    async with running_keeper(who, on=earth) as running:
        yield running


async def shell(kept, **options):
    made = await kept.inside(network="egress", **options)
    await made.run(TOOLS)
    return made


async def test_a_name_of_the_world_is_resolved_and_its_page_is_read(kept, earth):
    there = await shell(kept)
    assert await there.run(f"result = page({NAME!r})") == "hello"
    assert await there.run(f"result = page({WEB!r})") == "hello"
    assert set(earth.visitors) == {MACHINE}  # the world sees the machine, no address of ours
    found = f"result = sorted(a[4][0] for a in socket.getaddrinfo({LONG_NAME!r}, 80, socket.AF_INET, socket.SOCK_STREAM))"
    assert len(await there.run(found)) == 100  # over TCP, as it is too long for UDP
    assert (
        await there.run("import socket\ntry: socket.gethostbyname('nobody.test')\nexcept OSError as e: result = e.errno") == -2
    )


@pytest.mark.xdist_group("tun")
async def test_an_ordinary_users_way_out_by_the_other_program_is_the_same(earth, monkeypatch):
    """slirp4netns, where it is the only one to be found."""
    reason = why_not(USER) or ("needs root, to make a world" if os.geteuid() else "") or _no_program()
    if reason:
        pytest.skip(reason)
    need("slirp4netns", program="slirp4netns")
    before = stat.S_IMODE(TUN.stat().st_mode)
    os.chmod(TUN, 0o666)
    with tempfile.TemporaryDirectory(prefix="ondol-path-") as directory:
        os.chmod(directory, 0o755)
        os.symlink(shutil.which("slirp4netns"), f"{directory}/slirp4netns")
        monkeypatch.setenv("PATH", directory)
        async with running_keeper(USER, on=earth) as kept:
            there = await shell(kept)
            assert await there.run(f"result = page({NAME!r})") == "hello"
            assert "slirp4netns" in {Path(f"/proc/{pid}/comm").read_text().strip() for pid in kept.processes()}
            earth.listen(earth.machine, "0.0.0.0", 7979)
            earth.listen(earth.machine, "127.0.0.1", 8080)
            tries = [(a, port) for a in (MACHINE, "10.0.2.2", "10.0.2.3", "127.0.0.1", "198.18.0.1") for port in (7979, 8080)]
            assert await there.run(f"result = [a for a in {tries!r} if reached(a)]") == []
    os.chmod(TUN, before)


async def test_without_egress_no_name_and_no_page_is_to_be_had_and_that_is_said_at_once(kept, earth):
    there = await kept.inside(network="none")
    await there.run(TOOLS)
    said = "try: socket.create_connection((HOST, 80), timeout=30)\nexcept OSError as error: result = str(error)"
    assert "unreachable" in await there.run(said.replace("HOST", repr(WEB)))
    assert "name resolution" in await there.run(said.replace("HOST", repr(NAME)))
    assert earth.visitors == []
    assert earth.names_asked == []


async def test_nothing_of_the_machine_is_reached_by_any_address(kept, earth):
    """What listens there is reached by the world's side, so it does listen."""
    listeners = [earth.listen(earth.machine, "0.0.0.0", 7979), earth.listen(earth.machine, "127.0.0.1", 8080)]
    inside(earth.internet, lambda: socket.create_connection((MACHINE, 7979), 10).close())
    listeners[0].accept()[0].close()
    there = await shell(kept)
    assert await there.run(f"result = page({WEB!r})") == "hello"
    machine = inside(earth.machine, _addresses)
    addresses = {*machine, "127.0.0.1", "127.0.0.2", "0.0.0.0", "198.18.0.1", "localhost", "10.0.2.2", ROUTER}
    gateway = await there.run("result = [line.split()[2] for line in open('/proc/net/route')][1:]")
    assert gateway == ["010012C6"]
    ports = [(address, port) for address in sorted(addresses) for port in (7979, 8080)]
    assert await there.run(f"result = [a for a in {ports!r} if reached(a)]") == []
    for listener in listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_an_address_that_the_machine_gets_later_is_not_reached_either(kept, earth):
    there = await shell(kept)
    subprocess.run(
        [*_on(earth), "ip", "address", "add", "203.0.113.77/32", "dev", "eth0"], check=True, pass_fds=[earth.machine]
    )
    earth.listen(earth.machine, "203.0.113.77", 7979)
    tries = "result = reached(('203.0.113.77', 7979))"
    deadline = asyncio.get_running_loop().time() + 30
    while await there.run(tries) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.1)
    assert not await there.run(tries)


async def test_metadata_services_and_everything_link_local_are_not_reached(kept, earth):
    there = await shell(kept)
    earth.serve(earth.listen(earth.internet, "0.0.0.0", 8081), lambda sock: sock.accept()[0].close())
    assert await there.run(f"result = reached(({WEB!r}, 8081))")
    places = [
        "169.254.169.254",
        "169.254.1.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
    ]
    assert await there.run(f"result = [p for p in {places!r} if reached((p, 8081))]") == []
    assert await there.run("result = [p for p in ('fe80::1%eth0', 'ff02::1%eth0', 'fd00:ec2::254') if reached((p, 80))]") == []
    assert await there.run("result = 'eth0' in open('/proc/net/if_inet6').read()") is False


@pytest.mark.parametrize("account", ["000000000000", OTHER_ACCOUNT], ids=["of the same account", "of another account"])
async def test_environments_do_not_reach_each_other(kept, account):
    one, other = await shell(kept), await shell(kept, account=account)
    own = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('198.51.100.7', 9)); result = s.getsockname()[0]"
    address = await one.run(own)
    assert address.startswith("198.18.")
    await one.run(
        "held = [socket.create_server(('0.0.0.0', 4321)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(1)]\n"
        "held[1].bind(('0.0.0.0', 4321)); held[2].bind('\\0ondol-test'); held[2].listen()"
    )
    assert await one.run(f"result = [reached(({address!r}, 4321)), reached('\\0ondol-test')]") == [True, True]
    theirs = await other.run(own)
    tries = f"[(({address!r}, 4321), 1), (({address!r}, 4321), 2), (({address!r}, 9001), 1), ('\\0ondol-test', 1)]"
    assert await other.run(f"result = [t for t in {tries} if reached(*t)]") == []
    guesses = [f"198.18.1.{n}" for n in range(6)] + ["198.19.0.1", "198.19.0.2", theirs]
    assert await other.run(f"result = [g for g in {guesses!r} if reached((g, 4321), seconds=1)]") == []


async def test_nobody_outside_gets_in(kept, earth):
    there = await shell(kept)
    assert await there.run(f"result = page({WEB!r})") == "hello"
    await there.run("held = socket.create_server(('0.0.0.0', 4321))")
    own = await there.run("s = socket.socket(2, 2); s.connect(('198.51.100.7', 9)); result = s.getsockname()[0]")
    subprocess.run([*_in(earth), "ip", "route", "add", "198.18.0.0/15", "via", MACHINE], check=True, pass_fds=[earth.internet])
    for address in (own, MACHINE):
        with pytest.raises(OSError):
            inside(earth.internet, lambda address=address: socket.create_connection((address, 4321), 2))


async def test_a_function_cannot_change_its_network(kept):
    there = await shell(kept)
    tries = """
import fcntl, struct
def tried(action):
    try:
        action()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
ifreq = struct.pack("16sH2s4s8x", b"eth0", socket.AF_INET, b"", socket.inet_aton("10.9.9.9"))
sock = socket.socket()
result = {
    "address": tried(lambda: fcntl.ioctl(sock, 0x8916, ifreq)),
    "down": tried(lambda: fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"eth0", 0))),
    "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)),
    "forwarding": tried(lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1")),
    "device": tried(lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)),
}
"""
    assert "done" not in (await there.run(tries)).values()


async def test_the_resolver_is_nobody_and_another_one_comes_when_it_dies(kept):
    there = await shell(kept)
    assert await there.run(f"result = page({NAME!r})") == "hello"
    first = _named(kept, "ondol-resolver")
    status = Path(f"/proc/{first}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    kill(first)
    assert await all_gone([first]) == []
    again = f"try: result = page({NAME!r})\nexcept OSError: result = 'not yet'"
    deadline = asyncio.get_running_loop().time() + 60
    while (said := await there.run(again)) != "hello" and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
    assert said == "hello"


async def test_the_plumber_has_one_right_and_another_one_comes_when_it_dies(kept):
    await shell(kept)
    first = _named(kept, "ondol-plumber")
    assert "CapEff:\t0000000000001000" in Path(f"/proc/{first}/status").read_text()
    kill(first)
    assert await all_gone([first]) == []
    there = await shell(kept)
    assert await there.run(f"result = page({WEB!r})") == "hello"


@pytest.mark.parametrize("part", ["inner", "outer"])
async def test_a_killed_keeper_leaves_nothing_of_its_networks(who, earth, part):
    kept = start_keeper(who, on=earth)
    try:
        there = await shell(kept)
        assert await there.run(f"result = page({NAME!r})") == "hello"
        pids = kept.processes()
        kill(pids[0 if part == "outer" else 1])
        await asyncio.to_thread(kept.process.wait)
        assert await all_gone(pids) == []
        await kept.sandboxes.close()
        for each in kept.insides:
            each.close()
        kept.insides.clear()
        left = _network_of(earth)
        deadline = asyncio.get_running_loop().time() + 30
        while left and asyncio.get_running_loop().time() < deadline:  # the kernel takes namespaces apart in its own time
            await asyncio.sleep(0.05)
            left = _network_of(earth)
        assert left == []
        again = restart(kept)
        kept.process, kept.supervisor, kept.sandboxes = again.process, again.supervisor, again.sandboxes
        there = await shell(kept)
        assert await there.run(f"result = page({NAME!r})") == "hello"
    finally:
        await put_away(kept)


async def test_a_shell_that_ends_takes_its_device_along(kept, earth):
    there = await shell(kept)
    many = [await kept.sandboxes.prepare("000000000000", network="egress") for _ in range(5)]
    for each in (*many, there.shell):
        await kept.sandboxes.discard(each)
    again = await shell(kept)
    assert await again.run(f"result = page({NAME!r})") == "hello"


def _on(earth):
    return ["nsenter", f"--net=/proc/self/fd/{earth.machine}"]


def _in(earth):
    return ["nsenter", f"--net=/proc/self/fd/{earth.internet}"]


def _addresses():
    asking = netlink.Netlink(netlink.ROUTE)
    with asking.sock:
        return asking.addresses()


def _named(kept, name):
    return next(pid for pid in kept.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == name)


def _network_of(earth):
    """What a keeper made on the machine: devices, and firewall tables."""

    def look():
        return [name for _, name in socket.if_nameindex() if name not in ("lo", "eth0")]

    found = inside(earth.machine, look)
    if shutil.which("nft"):
        done = subprocess.run(
            [*_on(earth), "nft", "list", "tables"], check=True, pass_fds=[earth.machine], capture_output=True, text=True
        )
        found += [line for line in done.stdout.splitlines() if "ondol" in line]
    return found
