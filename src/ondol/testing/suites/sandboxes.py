"""What every `ondol.sandbox.Sandboxes` does, and that each holds apart what it claims to, and claims what it holds apart.

Give the fixture `house`, of the scope `class` and the loop of that: a maker of sandboxes as `testing/keepers.py` and
`testing/launchers.py` run them, whose guests run what a test sends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from ondol.model.errors import StartFailed
from ondol.sandbox import NODE_SOCKET, Claims, Sandboxes, Shell
from ondol.testing.keepers import ACCOUNT, INTERPRETER, CodeFailed, Inside, all_gone

#: Three generations of daemons that ignore what can be ignored.
DAEMONS = """
import os, time, signal
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.closerange(3, 64)
            time.sleep(1000)
        os._exit(0)
"""

_DESCRIPTORS = """
import os
result = {}
for name in os.listdir("/proc/self/fd"):
    try:
        result[name] = os.readlink("/proc/self/fd/" + name)
    except FileNotFoundError:
        pass  # the listing's own
"""


#: What would change the network that it has, and came off.
CHANGES = """
import fcntl, os, socket, struct
def tried(action):
    try:
        action()
        return True
    except OSError:
        return False
def marked():
    sock.setsockopt(socket.SOL_SOCKET, 36, 7)
    if sock.getsockopt(socket.SOL_SOCKET, 36) != 7:  # gVisor takes it and does nothing
        raise OSError
def settings(name):
    with open(name, "r+") as file:
        file.write("1")
sock = socket.socket()
ways = {
    "address": lambda: fcntl.ioctl(sock, 0x8916, struct.pack("16sH2s4s8x", b"lo", 2, b"", bytes([10, 9, 9, 9]))),
    "down": lambda: fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"lo", 0)),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3),
    "forwarding": lambda: settings("/proc/sys/net/ipv4/ip_forward"),
    "mark": marked,
    "the node's port": lambda: socket.socket().bind(("127.0.0.1", 9001)),
}
result = {name: True for name, way in ways.items() if tried(way)}
"""


def _answer(listener: socket.socket, text: str) -> bytes:
    """Serve one connection, in a thread: what was asked."""
    listener.setblocking(True)
    listener.settimeout(30)
    connection = listener.accept()[0]
    with connection:
        connection.settimeout(30)
        asked = connection.recv(10)
        connection.sendall(text.encode())
    return asked


class House(Protocol):
    """A running maker of sandboxes. `claims` is the data of its level."""

    sandboxes: Sandboxes
    data: Path
    shells: Path

    @property
    def claims(self) -> Claims: ...
    def code(self, **files: str) -> str: ...
    def processes(self) -> list[int]: ...
    def groups(self) -> Sequence[str]: ...
    def limits_memory(self) -> bool: ...
    async def inside(
        self, *, memory_bytes: int = ..., tmp_mib: int = ..., tree: str | None = None, account: str = ..., network: str = ...
    ) -> Inside: ...
    async def fork_into(self, shell: Shell) -> Inside: ...


@pytest.mark.asyncio(loop_scope="class")
class SandboxSuite:
    """Prepared, attached, forked into, scoured, discarded; and what lies between two of them."""

    # Code and files ----------------------------------------------------------------------------------------------------
    async def test_the_code_is_shown_to_a_guest_that_may_have_waited_for_it(self, house: House) -> None:
        inside = await house.inside(tree=house.code(app__py="x = 7\n", other__txt="y"))
        assert await inside.run("import os; result = sorted(os.listdir(task))") == ["app.py", "other.txt"]
        assert await inside.run("import sys; sys.path.insert(0, task); import app; result = app.x") == 7

    async def test_a_second_tree_is_shown_beside_the_code(self, house: House) -> None:
        shell = await house.sandboxes.prepare(ACCOUNT, INTERPRETER)
        tree, beside = house.code(app__py=""), house.code(layer__txt="")
        await house.sandboxes.attach(shell, tree=tree, opt_tree=beside, memory_bytes=256 << 20, tmp_mib=512)
        inside = await house.fork_into(shell)
        assert await inside.run("import os; result = [os.listdir(task), os.listdir(opt)]") == [["app.py"], ["layer.txt"]]

    @pytest.mark.parametrize("tmp_mib", [64, 600])
    async def test_tmp_of_any_size_can_be_written(self, house: House, tmp_mib: int) -> None:
        inside = await house.inside(tmp_mib=tmp_mib, tree=house.code(app__py=""))
        code = "import os; open(tmp + '/x', 'w').write('x'); result = [os.listdir(task), open(tmp + '/x').read()]"
        assert await inside.run(code) == [["app.py"], "x"]

    async def test_a_shell_holds_others_beside_its_first_or_says_that_it_does_not(self, house: House) -> None:
        inside = await house.inside(tree=house.code(app__py=""))
        zygote = await house.sandboxes.zygote(ACCOUNT, INTERPRETER)
        if not house.claims.several:
            with pytest.raises(StartFailed, match="holds one process"):
                await zygote.fork_beside(inside.shell)
            assert await inside.run("result = 1") == 1
            return
        one, other = [Inside(inside.shell, await zygote.fork_beside(inside.shell)) for _ in range(2)]
        try:
            assert await one.run("import os; open(tmp + '/x', 'w').write('x'); result = os.listdir(task)") == ["app.py"]
            assert await inside.run("result = open(tmp + '/x').read()") == "x"
            await inside.run("import socket; listener = socket.create_server(('127.0.0.1', 8123))")
            await other.run("import socket; reached = socket.create_connection(('127.0.0.1', 8123))")
            await one.run("import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(7))")
            one.child.signal(signal.SIGTERM)
            assert await one.ended() == 7
            assert [await each.run("result = 1") for each in (inside, other)] == [1, 1]
            await house.sandboxes.scour(inside.shell)
            assert [await each.ended() for each in (inside, other)] == [-signal.SIGKILL] * 2
            again = await house.fork_into(inside.shell)
            assert await again.run("import os; result = [os.listdir(task), open(tmp + '/x').read()]") == [["app.py"], "x"]
        finally:
            one.close()
            other.close()

    async def test_a_shell_freezes_or_says_that_it_does_not(self, house: House) -> None:
        inside = await house.inside()
        if inside.shell.freezes:
            await house.sandboxes.freeze(inside.shell, on=True)
            await house.sandboxes.freeze(inside.shell, on=False)
        else:
            with pytest.raises(StartFailed):
                await house.sandboxes.freeze(inside.shell, on=True)
        assert await inside.run("result = 1") == 1

    async def test_code_is_read_only_where_that_is_claimed(self, house: House) -> None:
        tree = house.code(app__py="x = 7\n")
        os.chmod(tree, 0o777)  # noqa: S103
        inside = await house.inside(tree=tree)
        if house.claims.code_read_only:
            with pytest.raises(CodeFailed) as failure:
                await inside.run("open(task + '/new', 'w')")
            assert failure.value.errno in (errno.EROFS, errno.EACCES)
        else:
            await inside.run("open(task + '/new', 'w').close()")
        assert ("new" in os.listdir(tree)) != house.claims.code_read_only

    async def test_two_shells_have_nothing_of_each_others_tmp_nor_code(self, house: House) -> None:
        one, two = await house.inside(tree=house.code(a__py="")), await house.inside(tree=house.code(b__py=""))
        await one.run("open(tmp + '/mine', 'w').write('x')")
        assert await two.run("import os; result = [os.listdir(task), os.path.exists(tmp + '/mine')]") == [["b.py"], False]

    async def test_tmp_itself_is_its_own_where_that_is_claimed(self, house: House) -> None:
        name, inside = f"/tmp/ondol-suite-{secrets.token_hex(6)}", await house.inside()  # noqa: S108
        await inside.run(f"open({name!r}, 'w').close()")
        outside = os.path.basename(name) in os.listdir("/tmp")  # noqa: S108
        if outside:
            os.unlink(name)
        assert outside != house.claims.tmp

    async def test_who_fills_tmp_finds_it_full_or_is_ended(self, house: House) -> None:
        inside = await house.inside(tmp_mib=4)
        code = (
            "import os\nwith open(tmp + '/big', 'wb') as f:\n    while f.tell() < 1 << 33: f.write(bytes(65536)); os.fsync(f)"
        )
        try:
            await inside.run(code)
        except CodeFailed as failure:
            assert failure.errno == errno.ENOSPC  # noqa: PT017
        except EOFError:
            assert await inside.ended() == -signal.SIGKILL
            await house.sandboxes.scour(inside.shell)  # whoever comes next is not ended for what was written before
            after = await house.fork_into(inside.shell)
            assert await after.run("import os; result = os.listdir(tmp)") == []

    async def test_the_machines_files_are_out_of_sight_where_that_is_claimed(self, house: House) -> None:
        inside = await house.inside()
        with tempfile.NamedTemporaryFile(prefix="ondol-suite-") as seen:
            os.chmod(seen.name, 0o644)
            assert await inside.run(f"import os; result = os.path.exists({seen.name!r})") != house.claims.files

    async def test_a_tree_outside_of_the_code_is_not_shown(self, house: House, tmp_path: Path) -> None:
        shell = await house.sandboxes.prepare(ACCOUNT)
        for tree in (str(tmp_path), str(house.data / "code" / ".." / ".."), str(house.data / "code" / "none")):
            with pytest.raises(StartFailed):
                await house.sandboxes.attach(shell, tree=tree, memory_bytes=64 << 20, tmp_mib=64)
        await house.sandboxes.discard(shell)

    # Who it is ---------------------------------------------------------------------------------------------------------
    async def test_it_has_no_rights(self, house: House) -> None:
        inside = await house.inside()
        status = await inside.run("result = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines())")
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        with pytest.raises(CodeFailed) as failure:
            await inside.run("import os; os.chown('/etc/hostname' if os.path.exists('/etc/hostname') else '/usr', 5, 5)")
        assert failure.value.errno in (errno.EPERM, errno.EROFS, errno.EINVAL)

    async def test_it_inherits_no_variable_and_shares_none(self, house: House) -> None:
        one, two = await house.inside(), await house.inside()
        await one.run("import os; os.environ['OF_ONE'] = 'x'")
        names = set(await two.run("import os; result = list(os.environ)"))
        assert names <= {"PATH", "LANG", "HOME", "LC_CTYPE", "TMPDIR", "PWD", "LD_LIBRARY_PATH"}, names

    async def test_it_inherits_no_descriptor(self, house: House) -> None:
        inside = await house.inside()
        held = await inside.run(_DESCRIPTORS)
        # The wire; the log as output and as errors; a null device as input.
        assert len(held) <= 4, held

    async def test_it_sees_only_its_own_processes_where_that_is_claimed(self, house: House) -> None:
        inside = await house.inside()
        seen = await inside.run("import os; result = [int(n) for n in os.listdir('/proc') if n.isdigit()]")
        if house.claims.processes:
            assert len(seen) <= 3, seen
        else:
            assert os.getpid() in seen

    async def test_its_loopback_is_its_own_where_that_is_claimed(self, house: House) -> None:
        inside = await house.inside()
        with socket.create_server(("127.0.0.1", 0)) as server:
            code = f"import socket; result = socket.socket().connect_ex(('127.0.0.1', {server.getsockname()[1]}))"
            assert (await inside.run(code) != 0) == house.claims.network

    async def test_it_can_talk_to_itself_over_loopback(self, house: House) -> None:
        inside = await house.inside()
        code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), 5)
client.sendall(b"hello")
result = server.accept()[0].recv(5).decode()
"""
        assert await inside.run(code) == "hello"

    async def test_it_reaches_its_node_by_the_shells_own_socket_and_so_does_who_comes_after_it(self, house: House) -> None:
        inside = await house.inside()
        assert (NODE_SOCKET in inside.shell.files) == house.claims.network
        if not house.claims.network:
            return
        listener = socket.socket(fileno=inside.shell.files.pop(NODE_SOCKET))
        code = """
import socket
with socket.create_connection(("127.0.0.1", 9001), 20) as sock:
    sock.sendall(b"who")
    result = sock.recv(10).decode()
"""
        for answer in ("first", "second"):
            said = asyncio.ensure_future(inside.run(code))
            assert await asyncio.to_thread(_answer, listener, answer) == b"who"
            assert await said == answer
            await house.sandboxes.scour(inside.shell)
            inside = await house.fork_into(inside.shell)
        listener.close()

    async def test_another_shells_socket_to_the_node_is_out_of_its_reach(self, house: House) -> None:
        if not house.claims.network:
            return
        one, two = await house.inside(), await house.inside()
        listener = socket.socket(fileno=one.shell.files.pop(NODE_SOCKET))
        code = "import socket; result = [socket.socket().connect_ex((a, 9001)) for a in ('127.0.0.1', '127.0.0.2')]"
        assert (await two.run(code))[0] == 0  # its own
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()

    async def test_it_cannot_change_its_network_where_it_has_one(self, house: House) -> None:
        if not house.claims.network:
            return
        inside = await house.inside()
        changed = await inside.run(CHANGES)
        assert changed == {}, changed

    async def test_it_speaks_to_another_kernel_where_that_is_claimed(self, house: House) -> None:
        inside = await house.inside()
        release = await inside.run("import os; result = os.uname().release")
        assert (release != os.uname().release) == house.claims.kernel

    async def test_what_it_writes_comes_by_its_log(self, house: House) -> None:
        inside = await house.inside()
        await inside.run("import os; os.write(1, b'one\\n'); os.write(2, b'two\\n')")
        await inside.tell("import os; os._exit(0)")
        await inside.ended()
        assert await inside.logged() == "one\ntwo\n"

    # How it ends -------------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("import os; os._exit(0)", 0),
            ("import os; os._exit(7)", 7),
            ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
            ("import os; os.abort()", -signal.SIGABRT),
            ("import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)", -signal.SIGTERM),
            ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ],
    )
    async def test_every_way_a_process_ends_is_told(self, house: House, code: str, status: int) -> None:
        inside = await house.inside()
        await inside.tell(code)
        assert await inside.ended() == status

    async def test_after_its_end_another_starts_in_the_same_shell(self, house: House) -> None:
        inside = await house.inside(tree=house.code(app__py="x = 7\n"))
        await inside.run("open(tmp + '/kept', 'w').write('x')")
        await inside.tell("import os; os._exit(3)")
        assert await inside.ended() == 3
        await house.sandboxes.scour(inside.shell)
        again = await house.fork_into(inside.shell)
        assert await again.run("import os; result = [os.listdir(task), open(tmp + '/kept').read()]") == [["app.py"], "x"]

    async def test_scouring_ends_daemons_and_keeps_tmp(self, house: House) -> None:
        inside = await house.inside()
        before = set(house.processes())
        await inside.run(DAEMONS + "open(tmp + '/kept', 'w').write('x')")
        daemons = set(house.processes()) - before
        await house.sandboxes.scour(inside.shell)
        assert await inside.ended() == -signal.SIGKILL
        assert await all_gone(list(daemons)) == []
        again = await house.fork_into(inside.shell)
        assert await again.run("result = open(tmp + '/kept').read()") == "x"

    async def test_an_empty_shell_can_be_scoured(self, house: House) -> None:
        inside = await house.inside()
        await house.sandboxes.scour(inside.shell)
        await house.sandboxes.scour(inside.shell)

    async def test_scouring_one_shell_leaves_the_other(self, house: House) -> None:
        one, two = await house.inside(), await house.inside()
        await house.sandboxes.scour(one.shell)
        assert await two.run("result = 2") == 2

    async def test_discarding_ends_daemons_and_leaves_nothing(self, house: House) -> None:
        await house.inside()  # what an account keeps while the house stands is there
        before = set(house.processes())
        inside = await house.inside()
        await inside.run(DAEMONS + "os.makedirs(tmp + '/a/b'); open(tmp + '/a/b/c', 'w').write('x'); os.chmod(tmp + '/a/b', 0)")
        mine = set(house.processes()) - before
        assert mine
        await house.sandboxes.discard(inside.shell)
        assert await all_gone(list(mine)) == []
        assert not list(house.shells.glob(f"{inside.shell.id}*"))
        assert not [group for top in house.groups() for group, _, _ in os.walk(top) if inside.shell.id in group]

    async def test_discarding_twice_is_no_error(self, house: House) -> None:
        for interpreter in ("", INTERPRETER):
            shell = await house.sandboxes.prepare(ACCOUNT, interpreter)
            await asyncio.gather(*(house.sandboxes.discard(shell) for _ in range(2)))
            await house.sandboxes.discard(shell)

    async def test_a_discarded_shell_takes_nothing_more(self, house: House) -> None:
        inside = await house.inside()
        await house.sandboxes.discard(inside.shell)
        zygote = await house.sandboxes.zygote(ACCOUNT, INTERPRETER)
        with pytest.raises(StartFailed):
            await zygote.fork(inside.shell)
        with pytest.raises(StartFailed):
            await house.sandboxes.attach(inside.shell, tree=house.code(), memory_bytes=64 << 20, tmp_mib=64)
        with pytest.raises(StartFailed):
            await house.sandboxes.usage(inside.shell)

    async def test_a_shell_is_attached_once(self, house: House) -> None:
        inside = await house.inside()
        with pytest.raises(StartFailed):
            await house.sandboxes.attach(inside.shell, tree=house.code(), memory_bytes=64 << 20, tmp_mib=64)

    async def test_an_unknown_interpreter_is_refused(self, house: House) -> None:
        shell = await house.sandboxes.prepare(ACCOUNT)
        with pytest.raises(StartFailed, match="not one of the interpreters"):
            await (await house.sandboxes.zygote(ACCOUNT, "/bin/sh")).fork(shell)
        await house.sandboxes.discard(shell)

    # What it used ------------------------------------------------------------------------------------------------------
    async def test_memory_is_counted_where_it_can_be(self, house: House) -> None:
        inside = await house.inside()
        before = await house.sandboxes.usage(inside.shell)
        assert before.oom_kills == 0
        await inside.run("x = bytearray(48 << 20); x[::4096] = bytes(len(x[::4096]))")
        grown = (await house.sandboxes.usage(inside.shell)).memory_peak_bytes
        assert (grown > 24 << 20) == house.limits_memory()

    async def test_where_no_control_group_bounds_memory_each_process_has_its_bound(self, house: House) -> None:
        inside = await house.inside()  # then the house is up, with what groups it has
        if house.limits_memory() or house.claims.kernel:
            return
        code = """
import threading
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(100)]
for each in threads:
    each.start()
x = []
while len(x) < 4096:
    x.append(bytearray(1 << 20))
"""
        with pytest.raises(CodeFailed) as failure:
            await inside.run(code)
        assert failure.value.name == "MemoryError"

    async def test_the_memory_limit_holds(self, house: House) -> None:
        inside = await house.inside(memory_bytes=64 << 20)
        code = "x = []\nwhile len(x) < 512:\n    x.append(bytearray(1 << 20)); x[-1][::4096] = bytes(256)"
        failure: Any = None
        try:
            await inside.run(code)
        except (CodeFailed, EOFError) as error:
            failure = error
        if house.limits_memory():
            assert isinstance(failure, EOFError)
            assert await inside.ended() == -signal.SIGKILL
            assert (await house.sandboxes.usage(inside.shell)).oom_kills >= 1
        else:
            assert failure is None or getattr(failure, "name", "") == "MemoryError", failure
