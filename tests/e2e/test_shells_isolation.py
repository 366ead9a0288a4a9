"""What a function sees and may do inside a shell, as root and as an ordinary user."""

from __future__ import annotations

import errno
import os

import pytest

from ondol.model.errors import StartFailed
from ondol.testing.keepers import INTERPRETER, USER, CodeFailed, running_keeper, why_not

pytestmark = [pytest.mark.sandbox]


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def kept(request):
    reason = why_not(request.param)
    if reason == "needs root" or (reason and not os.environ.get("CI")):
        pytest.skip(reason)
    assert not reason
    async with running_keeper(request.param) as running:
        yield running


async def test_the_view_is_what_was_intended_and_nothing_else(kept):
    inside = await kept.inside(tree=kept.code(app__py="x = 1\n"))
    prefix_top = INTERPRETER.split("/")[1]
    assert set(await inside.run("import os; result = os.listdir('/')")) <= {
        *("bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "opt", "proc", "run", "sbin", "tmp", "usr", "var"),
        *(".ondol", prefix_top),
    }
    assert await inside.run("result = os.listdir('/var/task')") == ["app.py"]
    assert await inside.run("result = os.listdir('/opt/lib') + os.listdir('/tmp') + os.listdir('/run')") == []
    assert await inside.run("result = os.listdir('/opt')") == ["lib"]
    assert "guest.py" in await inside.run("result = os.listdir('/var/runtime/ondol_guest')")
    assert not await inside.run(f"result = os.path.exists({str(kept.data)!r})")


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/etc/ssh", "/root/.ssh", "/sys", "/boot", "/proc/1/root", "/proc/1/fd/0", "/dev/vda", "/dev/kmsg"]
)
async def test_nothing_of_the_host_is_to_be_had(kept, path):
    inside = await kept.inside()
    with pytest.raises(CodeFailed) as failure:
        await inside.run(f"import os; os.stat({path!r}); os.listdir({path!r})")
    assert failure.value.errno in (errno.ENOENT, errno.EACCES, errno.EPERM)


@pytest.mark.parametrize(
    "path", ["/var/task/new", "/usr/new", "/new", "/etc/passwd", "/var/runtime/ondol_guest/guest.py", "/opt/new"]
)
async def test_only_tmp_can_be_written(kept, path):
    inside = await kept.inside(tree=kept.code(app__py=""))
    with pytest.raises(CodeFailed) as failure:
        await inside.run(f"open({path!r}, 'a')")
    assert failure.value.errno in (errno.EROFS, errno.EACCES)
    assert await inside.run("open('/tmp/new', 'w').write('x'); result = open('/tmp/new').read()") == "x"


async def test_proc_shows_only_the_shells_own_processes(kept):
    await kept.inside()
    inside = await kept.inside()
    pids = await inside.run("import os; result = [int(p) for p in os.listdir('/proc') if p.isdigit()]")
    own = await inside.run("result = os.getpid()")
    assert sorted(pids) == [1, own]


async def test_no_right_is_left_and_none_can_be_gained(kept):
    inside = await kept.inside()
    status = dict(await inside.run("result = [line.split(':', 1) for line in open('/proc/self/status')]"))
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"].split() == ["1"]
    assert await inside.run("import os; result = [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]") == [
        993,
        993,
        990,
        990,
    ]


@pytest.mark.parametrize("flags", [0x10000000, 0x20000, 0x20000000])
async def test_no_namespace_can_be_made_inside(kept, flags):
    inside = await kept.inside()
    assert await inside.run(f"import ctypes; result = ctypes.CDLL(None).unshare({flags})") == -1


async def test_the_init_can_be_neither_killed_nor_traced(kept):
    inside = await kept.inside()
    await inside.run("import os, signal\nfor number in range(1, 65):\n    try: os.kill(1, number)\n    except OSError: pass")
    ptrace_attach = "import ctypes; result = ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0)"
    assert await inside.run(ptrace_attach) == -1
    assert await inside.run("import os; result = os.path.exists('/proc/1/stat')")


async def test_the_zygotes_and_the_keepers_descriptors_are_closed(kept):
    inside = await kept.inside()
    open_fds = await inside.run(
        "import os; result = [os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd') if n != '3'] "
    )
    sockets = [name for name in open_fds if name.startswith("socket:")]
    others = [name for name in open_fds if not name.startswith(("socket:", "pipe:", "/dev/null", "/proc/"))]
    assert len(sockets) <= 1
    assert others == []


async def test_limits_are_set(kept):
    inside = await kept.inside()
    limits = await inside.run(
        "import resource as r; result = [r.getrlimit(x) for x in (r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_MEMLOCK)]"
    )
    assert limits == [[1024, 1024], [0, 0], [65536, 65536]]


async def test_standard_output_can_be_opened_again_and_is_the_log(kept):
    inside = await kept.inside()
    await inside.run("import os; open('/dev/stdout', 'w').write('one\\n'); os.write(2, b'two\\n')")
    await kept.sandboxes.scour(inside.shell)
    assert await inside.logged() == "one\ntwo\n"


async def test_shared_memory_and_locks_work(kept):
    inside = await kept.inside()
    code = "import multiprocessing, subprocess; lock = multiprocessing.Lock(); result = subprocess.run(['sh', '-c', 'echo $((6*7))'], capture_output=True, text=True).stdout"
    assert await inside.run(code) == "42\n"


async def test_two_shells_of_an_account_do_not_meet(kept):
    one, two = await kept.inside(), await kept.inside()
    await one.run("open('/tmp/secret', 'w').write('x'); import os; open('/dev/shm/secret', 'w').write('x')")
    assert await two.run("import os; result = os.listdir('/tmp') + os.listdir('/dev/shm')") == []
    with pytest.raises(CodeFailed):
        await two.run("import os, signal; os.kill(-1, 9)")
    assert await one.run("result = 1") == 1


async def test_accounts_have_users_of_their_own_on_the_host(kept):
    one, two = await kept.inside(), await kept.inside(account="111111111111")
    assert await one.run("import os; result = os.readlink('/proc/self/ns/user')") != await two.run(
        "import os; result = os.readlink('/proc/self/ns/user')"
    )


@pytest.mark.parametrize("tree", ["/etc", "/", "{code}/../..", "{code}/../shells", "{code}/link"])
async def test_only_code_can_be_attached(kept, tree):
    code = kept.data / "code"
    (code / "link").symlink_to("/etc")
    shell = await kept.sandboxes.prepare("000000000000")
    with pytest.raises(StartFailed):
        await kept.sandboxes.attach(shell, tree=tree.format(code=code), memory_bytes=128 << 20, tmp_mib=512)
    await kept.sandboxes.discard(shell)
