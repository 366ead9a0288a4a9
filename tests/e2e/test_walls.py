"""What runtimes need works under the walls, in every interpreter that is here; what is denied gets the error it should."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ondol import syscalls
from ondol.runtimes.interpreters import Interpreters
from ondol.testing.keepers import ACCOUNT, INTERPRETER, USER, running_keeper, why_not
from ondol.walls import landlock
from ondol.walls.findings import found
from ondol.walls.numbers import numbers

pytestmark = [pytest.mark.sandbox]

INTERPRETERS = {one.name: one.path for one in Interpreters.discover().all()}


def skip_unless_possible(user):
    reason = why_not(user)
    if reason == "needs root" or (reason and not os.environ.get("CI")):
        pytest.skip(reason)
    assert not reason


@pytest.fixture(params=[None, USER], ids=["root", "user"])
async def kept(request):
    skip_unless_possible(request.param)
    async with running_keeper(request.param) as running:
        yield running


@pytest.fixture
async def inside(kept):
    return await kept.inside()


#: Each is run by itself, and must end without an error. Python 3.8 and later.
NEEDED = {
    "ssl": "import ssl; c = ssl.create_default_context(); c.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname='x')",
    "hashes and random bytes": "import hashlib, os, secrets; hashlib.scrypt(b'a', salt=b'b', n=2, r=1, p=1); os.urandom(8)",
    "sqlite with a write-ahead log": """
import sqlite3, threading
with sqlite3.connect('/tmp/db', timeout=9) as db:
    db.execute('pragma journal_mode=wal'); db.execute('create table t (n)')
def insert():
    with sqlite3.connect('/tmp/db', timeout=9) as db: db.execute('insert into t values (1)')
threads = [threading.Thread(target=insert) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert sqlite3.connect('/tmp/db').execute('select count(*) from t').fetchone() == (4,)""",
    "threads": "from concurrent.futures import ThreadPoolExecutor as P\nassert sum(P(32).map(abs, range(100))) == 4950",
    "processes by fork": "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: assert p.map(abs, [-1, -2]) == [1, 2]",
    "processes by spawn": "import multiprocessing as m\nwith m.get_context('spawn').Pool(1) as p: assert p.map(abs, [-1, -2]) == [1, 2]",
    "shared memory": """
from multiprocessing import shared_memory as s
m = s.SharedMemory(create=True, size=4096); m.buf[0] = 7; m.close(); m.unlink()""",
    "semaphores and queues": """
import multiprocessing as m
c = m.get_context('fork'); q, l = c.Queue(), c.Lock()
p = c.Process(target=lambda: (l.acquire(), q.put(5), l.release())); p.start(); assert q.get(timeout=20) == 5; p.join()""",
    "asyncio with a subprocess and an executor": """
import asyncio
async def main():
    p = await asyncio.create_subprocess_shell('echo $((6*7)); cat', stdin=-1, stdout=-1)
    out, _ = await p.communicate(b'x')
    assert (out, p.returncode) == (b'42\\nx', 0)
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, max, 1, 2) == 2
    server = await asyncio.start_server(lambda r, w: (w.write(b'hi'), w.close()), '127.0.0.1', 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname()); assert await r.read() == b'hi'
    w.close(); server.close()
asyncio.run(main())""",
    "a shell with a pipeline": """
import subprocess
s = "mkfifo /tmp/p; (echo one > /tmp/p &); cat /tmp/p; ls / | sort | head -1; id -un; tar cf - /etc/passwd 2>/dev/null | tar tf -"
out = subprocess.run(['/bin/sh', '-c', s], stdout=-1, check=True, timeout=30).stdout.split()
assert out == [b'one', b'bin', b'sbx_user1051', b'etc/passwd'], out""",
    "posix_spawn and vfork": "import os; p = os.posix_spawn('/bin/true', ['true'], {}); assert os.waitpid(p, 0)[1] == 0",
    "ctypes with a callback": """
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))(lambda a, b: a[0] - b[0])
numbers = (ctypes.c_int * 3)(3, 1, 2)
ctypes.CDLL(None).qsort(numbers, 3, 4, compare); assert list(numbers) == [1, 2, 3]""",
    "sockets of every usual kind": """
import socket
for family, address in ((socket.AF_INET, ('127.0.0.1', 0)), (socket.AF_UNIX, '/tmp/s'), (socket.AF_UNIX, '\\0of-ours')):
    a = socket.socket(family); a.bind(address); a.listen(); b = socket.socket(family); b.connect(a.getsockname())
    c = a.accept()[0]; c.sendall(b'x'); assert b.recv(1) == b'x'
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); a.close(); b.close(); c.close()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 0)); u.sendto(b'x', u.getsockname()); u.recv(1)
x, y = socket.socketpair(); x.send(b'1'); assert y.recv(1) == b'1'
assert socket.getaddrinfo('localhost', 80) and socket.if_nameindex()
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()""",
    "files of every usual kind": """
import os, mmap, tempfile, shutil
os.makedirs('/tmp/a/b'); open('/tmp/a/f', 'w').write('x' * 9999)
os.rename('/tmp/a/f', '/tmp/a/b/f'); os.link('/tmp/a/b/f', '/tmp/a/l'); os.symlink('l', '/tmp/a/s'); os.mkfifo('/tmp/a/p')
os.truncate('/tmp/a/l', 10); os.chmod('/tmp/a/l', 0o600); os.utime('/tmp/a/l'); os.stat('/tmp/a/s'); os.access('/tmp/a/s', os.R_OK)
shutil.copytree('/tmp/a/b', '/tmp/c'); shutil.rmtree('/tmp/c')
with tempfile.TemporaryFile() as t: t.write(b'x'); t.flush(); os.fsync(t.fileno()); os.posix_fallocate(t.fileno(), 0, 4096)
m = os.memfd_create('m'); os.ftruncate(m, 4096); mmap.mmap(m, 4096)[0] = 1; os.pread(m, 1, 0)
open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(1); open('/dev/shm/x', 'w').write('x'); os.remove('/dev/shm/x')
os.setxattr('/tmp/a/l', 'user.x', b'1') if os.statvfs('/tmp').f_fsid else None
os.sendfile(m, os.open('/etc/passwd', os.O_RDONLY), 0, 5); os.listdir('/proc/self/fd'); open('/proc/self/comm', 'w').write('me')""",
    "programs of its own": """
import os, shutil, subprocess
shutil.copy(shutil.which('true'), '/tmp/program'); os.chmod('/tmp/program', 0o755); assert subprocess.call('/tmp/program') == 0
open('/tmp/script', 'w').write('#!/bin/sh\\nexit 3\\n'); os.chmod('/tmp/script', 0o755); assert subprocess.call('/tmp/script') == 3""",
    "signals and timers": """
import os, signal, time
seen = []; before = signal.signal(signal.SIGALRM, lambda *a: seen.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.05); signal.signal(signal.SIGALRM, before); assert seen
p = os.fork()
if not p: time.sleep(60); os._exit(0)
os.kill(p, signal.SIGTERM); assert os.waitpid(p, 0)[1] == signal.SIGTERM""",
    "the scheduler and limits": """
import os, resource
os.sched_getaffinity(0); os.sched_setaffinity(0, os.sched_getaffinity(0)); os.nice(1); os.getpriority(os.PRIO_PROCESS, 0)
resource.getrusage(resource.RUSAGE_CHILDREN); resource.prlimit(0, resource.RLIMIT_NOFILE, (512, 1024)); os.sysconf('SC_PAGESIZE')""",
    "the rest of the library": """
import decimal, lzma, bz2, zlib, platform, uuid, locale, getpass, pwd, curses, unicodedata, xml.etree.ElementTree as x
lzma.decompress(lzma.compress(b'x')); platform.platform(); uuid.uuid1(); uuid.uuid4(); import os
x.fromstring('<a/>'); assert pwd.getpwuid(os.getuid()).pw_name == 'sbx_user1051'""",
}


@pytest.mark.parametrize("name", sorted(INTERPRETERS))
async def test_what_a_runtime_needs_works(name):
    skip_unless_possible(None)
    async with running_keeper(None, interpreters=[INTERPRETERS[name]]) as kept:
        inside = await kept.inside(interpreter=INTERPRETERS[name], memory_bytes=512 << 20)
        failed = await inside.run(
            f"""
import traceback
result = {{}}
for name, code in {NEEDED!r}.items():
    try: exec(code, {{"__name__": "handler"}})
    except BaseException: result[name] = traceback.format_exc()
"""
        )
    assert failed == {}


PROGRAMS = {
    "node": (
        "const { Worker } = require('worker_threads'), fs = require('fs'), http = require('http');"
        "const server = http.createServer((_, r) => r.end('served')).listen(0, '127.0.0.1', () =>"
        " new Worker(\"require('fs').writeFileSync('/tmp/n', 'x')\", { eval: true }).on('exit', () =>"
        " fs.readFile('/tmp/n', () => require('child_process').exec('echo run', (_, said) =>"
        " http.get(server.address(), r => r.on('data', d => { console.log(String(d) + said); process.exit() }))))));"
    ),
    "perl": "print 'served'; system('echo run')",
}


@pytest.mark.parametrize(("program", "code"), PROGRAMS.items())
async def test_other_languages_run_as_programs(kept, program, code):
    path = next((p for p in (f"/usr/bin/{program}", f"/usr/local/bin/{program}") if os.path.exists(p)), None)
    if path is None:
        pytest.skip(f"{program} is not installed")
    inside = await kept.inside(memory_bytes=1 << 30)
    ran = f"import subprocess; r = subprocess.run([{path!r}, '-e', {code!r}], stdout=-1, stderr=-2, timeout=60)"
    assert (await inside.run(f"{ran}; result = r.stdout.decode()")).split() == ["servedrun"]


#: Makes a system call by its number, and gives the error.
CALL = """
import ctypes, ctypes.util
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    padded = [ctypes.c_long(a) for a in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    return 0 if libc.syscall(ctypes.c_long(number), *padded) >= 0 else ctypes.get_errno()
"""

DENIED = {
    **dict.fromkeys(
        (
            *("mount", "umount2", "pivot_root", "chroot", "setns", "open_tree", "move_mount", "fsopen", "mount_setattr", "bpf"),
            *(
                "ptrace",
                "process_vm_readv",
                "pidfd_getfd",
                "perf_event_open",
                "userfaultfd",
                "keyctl",
                "add_key",
                "request_key",
            ),
            *(
                "io_uring_setup",
                "open_by_handle_at",
                "init_module",
                "kexec_load",
                "syslog",
                "swapon",
                "vmsplice",
                "sethostname",
            ),
            *("settimeofday", "adjtimex", "mbind", "move_pages", "migrate_pages", "fanotify_init", "quotactl", "kcmp", "acct"),
        ),
        errno.EPERM,
    ),
    **dict.fromkeys(
        ("clone3", "seccomp", "landlock_create_ruleset", "landlock_restrict_self", "memfd_secret", "io_setup", "listmount"),
        errno.ENOSYS,
    ),
}


async def test_what_is_denied_gets_the_error_that_libraries_expect(inside):
    known = numbers(platform.machine())
    told = {name: known[name] for name in DENIED}
    assert await inside.run(f"{CALL}\nresult = {{n: call(number) for n, number in {told!r}.items()}}") == DENIED
    assert await inside.run("result = [call(n) for n in (1000, 0x40000000 | 39)]") == [errno.ENOSYS, errno.ENOSYS]


async def test_sockets_of_other_families_and_raw_ones_are_refused(inside):
    made = await inside.run(
        """
import socket
result = []
for family, kind, protocol in ((17, 3, 0x300), (40, 1, 0), (38, 5, 0), (15, 3, 2), (2, 3, 1), (10, 3, 58), (2, 1, 132), (16, 3, 12)):
    try: socket.socket(family, kind, protocol).close(); result.append(0)
    except OSError as error: result.append(error.errno)
"""
    )
    family, protocol = errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT
    assert made == [family, family, family, family, errno.EPERM, errno.EPERM, protocol, protocol]


async def test_a_function_cannot_switch_off_what_protects_it(inside):
    prctl, personality, ioctl = (numbers(platform.machine())[name] for name in ("prctl", "personality", "ioctl"))
    tried = f"[call({prctl}, 22, 0), call({prctl}, 22, 2), call({personality}, 0x40000), call({ioctl}, 0, 0x5412), call({ioctl}, 0, (1 << 32) | 0x5412)]"
    assert await inside.run(f"{CALL}\nresult = {tried}") == [errno.EINVAL, errno.EINVAL, *[errno.EPERM] * 3]
    status = await inside.run("result = dict(line.split(':', 1) for line in open('/proc/self/status'))")
    assert (status["Seccomp"].strip(), status["Seccomp_filters"].strip()) == ("2", "2")


async def test_programs_that_a_function_starts_are_behind_the_same_walls(kept):
    inside = await kept.inside()
    ran = "import subprocess; r = subprocess.run(['/bin/sh', '-c', {!r}], stdout=-1, stderr=-2, timeout=30)"
    said = await inside.run(ran.format("grep Seccomp: /proc/self/status") + "; result = r.stdout.decode()")
    assert said.split() == ["Seccomp:", "2"]
    for tried in ("unshare -r true", "unshare -m true", "mount -t tmpfs x /tmp", "echo x > /usr/new"):
        said = await inside.run(ran.format(tried) + "; result = [r.returncode, r.stdout.decode()]")
        assert said[0] != 0, said


@pytest.mark.skipif(platform.machine() != "x86_64", reason="no other machine has a second way to call")
async def test_a_call_by_the_old_32_bit_way_ends_the_process(inside):
    status = await inside.run(
        """
import ctypes, mmap, os
pid = os.fork()
if not pid:
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, getpid; int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(0)
result = os.waitpid(pid, 0)[1]
"""
    )
    # SIGSEGV: a kernel without that way.
    assert status & 0x7F in (signal.SIGSYS, signal.SIGSEGV)


async def test_an_init_is_behind_walls_of_its_own(kept):
    if kept.as_user is None and os.geteuid() != 0:
        pytest.skip("needs root to look")
    await kept.inside()
    inits = [pid for pid in kept.processes() if Path(f"/proc/{pid}/comm").read_text() == "init\n"]
    status = dict(line.split(":", 1) for line in Path(f"/proc/{inits[0]}/status").read_text().splitlines())
    assert len(inits) == 1
    assert [status[key].strip() for key in ("Seccomp", "NoNewPrivs", "CapEff", "CapBnd")] == ["2", "1", "0" * 16, "0" * 16]


async def test_limits_hold_and_cannot_be_raised(inside):
    raised = await inside.run(
        """
import resource as r
result = {}
for name in ('NOFILE', 'CORE', 'MEMLOCK'):
    which = getattr(r, 'RLIMIT_' + name); soft, hard = r.getrlimit(which)
    try: r.setrlimit(which, (hard, hard + 1)); result[name] = 'raised'
    except (ValueError, OSError): result[name] = [soft, hard]
"""
    )
    assert raised == {"NOFILE": [1024, 1024], "CORE": [0, 0], "MEMLOCK": [65536, 65536]}
    assert await inside.run("result = r.getrlimit(r.RLIMIT_STACK)[0]") == 8 << 20
    opened = "import os\nn = 0\ntry:\n    while True: os.open('/dev/null', 0); n += 1\nexcept OSError as e: result = [e.errno, n > 900]"
    assert await inside.run(opened) == [errno.EMFILE, True]


LAYOUT = """
import random, uuid
def where(): return [line.split('-')[0] for line in open('/proc/self/maps') if 'libc' in line or '[stack]' in line]
result = [hash('x'), where(), random.random(), str(uuid.uuid4())]
"""


async def test_hash_seed_and_addresses_are_shared_by_an_account_at_most(kept):
    ours, same = await (await kept.inside()).run(LAYOUT), await (await kept.inside()).run(LAYOUT)
    other = await (await kept.inside(account="111111111111")).run(LAYOUT)
    assert ours[:2] == same[:2]
    assert ours[0] != other[0]
    assert not set(ours[1]) & set(other[1])
    assert len({each[2] for each in (ours, same, other)}) == len({each[3] for each in (ours, same, other)}) == 3


ADDR_NO_RANDOMIZE = 0x40000


async def test_addresses_are_random_whatever_the_node_was_started_with():
    """As under a debugger: fixed addresses are inherited by all that is started."""
    skip_unless_possible(None)
    libc = ctypes.CDLL(None)
    before = libc.personality(ADDR_NO_RANDOMIZE)
    try:
        starting = running_keeper(None)
        kept = await starting.__aenter__()
    finally:
        libc.personality(before)
    try:
        ours = await (await kept.inside()).run(LAYOUT)
        other = await (await kept.inside(account="111111111111")).run(LAYOUT)
    finally:
        await starting.__aexit__(None, None, None)
    assert not set(ours[1]) & set(other[1])


@pytest.mark.skipif(syscalls.landlock_abi() < 6, reason="Landlock of this kernel holds neither signals nor abstract sockets")
async def test_signals_and_abstract_sockets_end_at_the_environment(inside):
    name = f"\0ondol-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(name)
        outside.listen()
        reached = await inside.run(
            f"""
import os, socket
result = []
for tried in (lambda: socket.socket(socket.AF_UNIX).connect({name!r}), lambda: os.kill(1, 0)):
    try: tried(); result.append('reached')
    except OSError as error: result.append(error.errno)
"""
        )
    # With a network namespace of its own, there is nobody of that name.
    assert reached[0] in (errno.EPERM, errno.ECONNREFUSED)
    assert reached[1] == errno.EPERM


WRITING = """
import json, os, sys
from ondol import syscalls
own, others, handled, scoped, flags, paths = json.loads(sys.argv[1])
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
syscalls.landlock(handled, scoped, flags, paths)
os.makedirs(own + "/a"); open(own + "/f", "w").write("x"); os.rename(own + "/f", own + "/a/f"); open("/dev/null", "w").write("x")
def errno_of(action):
    try: action(); return 0
    except OSError as error: return error.errno
print(json.dumps([errno_of(action) for action in (
    lambda: open(others + "/f", "w"), lambda: os.mkdir(others + "/d"), lambda: os.mkfifo(others + "/p"),
    lambda: os.symlink("x", others + "/l"), lambda: os.remove(others + "/there"), lambda: open(others + "/there", "a"),
)]))
"""


@pytest.mark.parametrize("abi", [abi for abi in (2, 3, 5, 6, 7) if abi <= syscalls.landlock_abi()])
def test_landlock_holds_where_everything_else_would_let_a_write_through(tmp_path, abi):
    """In a process without any other wall, and as whoever runs the tests."""
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir()
    others.mkdir()
    (others / "there").touch()
    rules = landlock.function(abi)
    rights = dict(rules.paths)
    paths = [("/", rights["/"]), (str(own), rights["/tmp"]), ("/dev/null", rights["/dev/null"])]
    told = json.dumps([str(own), str(others), rules.handled, rules.scoped, rules.flags, paths])
    ran = subprocess.run([sys.executable, "-c", WRITING, told], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(ran.stdout) == [errno.EACCES] * 6
    assert os.listdir(others) == ["there"]


async def test_another_tmp_than_the_usual_one_can_be_written_by_who_waited_ahead():
    """Its rules are about the file system that it saw; the one that is put over it later is another."""
    skip_unless_possible(None)
    async with running_keeper(None, stock_shells=1) as kept:
        await kept.sandboxes.stock(ACCOUNT, INTERPRETER)
        shell = await kept.sandboxes.prepare(ACCOUNT, INTERPRETER)
        await kept.sandboxes.attach(shell, tree=kept.code(), memory_bytes=256 << 20, tmp_mib=600)
        inside = await kept.fork_into(shell)
        assert await inside.run("open('/tmp/x', 'w').write('x'); import os; result = os.statvfs('/tmp').f_blocks > 0") is True


def test_a_machine_says_which_walls_it_has():
    seccomp, files = found()
    assert seccomp.ok
    assert seccomp.needed
    assert files.ok == (syscalls.landlock_abi() >= landlock.ABI_MIN)
    assert not files.needed


#: A kernel without one of them: a filter answers for it.
LACKING = """
import sys
from ondol import syscalls
from ondol.walls import bpf
from ondol.walls.numbers import ARCHITECTURES, numbers
name, error, then = sys.argv[1], int(sys.argv[2]), sys.argv[3]
machine = __import__("platform").machine()
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
lacking = {numbers(machine)[name]: bpf.errno(error)}
syscalls.install_filter(bpf.compile_filter(ARCHITECTURES[machine], lacking, bpf.ALLOW, bpf.ALLOW))
exec(then)
"""


def on_a_kernel_without(name, error, then):
    command = [sys.executable, "-c", LACKING, name, str(error), then]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


KEEPER = (
    "from ondol.keeper.__main__ import main; sys.exit(main(['--supervisor-fd', '9', '--data', '/nowhere', '--node-id', 'x']))"
)
FOUND = "from ondol.keeper import probe; print(probe.able(probe.probe()), [(f.ok, f.detail, f.mend) for f in probe.probe() if {!r} in f.what])"


def test_without_a_filter_of_system_calls_no_keeper_starts():
    ran = on_a_kernel_without("seccomp", errno.EINVAL, KEEPER)
    assert ran.returncode == 69
    assert "no filter of system calls (seccomp) can be put up: [Errno 22] seccomp: Invalid argument" in ran.stderr
    assert "ondol doctor" in ran.stderr


def test_without_a_filter_of_system_calls_doctor_says_that_no_node_can_run():
    said = on_a_kernel_without("seccomp", errno.EINVAL, FOUND.format("seccomp")).stdout
    assert said.startswith("False [(False, '[Errno 22] seccomp: Invalid argument', 'a kernel with CONFIG_SECCOMP_FILTER")


def test_without_landlock_it_is_said_and_the_filter_stands_alone():
    walls = "import logging; from ondol.keeper.halves import walls as found; walls = found(logging.getLogger().warning); print(walls.environment, walls.init, len(walls.filters.child) > 0)"
    ran = on_a_kernel_without("landlock_create_ruleset", errno.EOPNOTSUPP, walls)
    assert ran.stdout.split() == ["None", "None", "True"]
    assert "functions are without Landlock, the second wall around files: the kernel has none, or it is off" in ran.stderr


def test_without_landlock_doctor_says_so_and_that_a_node_can_run():
    said = on_a_kernel_without("landlock_create_ruleset", errno.ENOSYS, FOUND.format("Landlock")).stdout
    assert "[(False, 'the kernel has none, or it is off', 'Linux 5.19 or newer with landlock in the boot option lsm=" in said
