"""Reaching what lives beside: init, other environments, other functions, other accounts; and staying."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from ondol.testing import keepers
from ondol.testing.hostile import SOURCE, Failed

#: The default of --freeze-s-min, and how long the environment idles beyond it.
FREEZE_S, IDLE_S = 5, 3

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_an_environment_is_alone_with_its_init(inside):
    pids, commands = inside(
        """
pids = sorted(int(d) for d in os.listdir("/proc") if d.isdigit())
out = [pids, [open(f"/proc/{pid}/cmdline").read().split(chr(0))[0] for pid in pids]]
"""
    )
    assert pids[0] == 1
    assert len(pids) == 2
    assert commands[0] == "init"


def test_init_and_everybody_else_outlive_a_kill_of_all(inside):
    assert inside(
        """
for number in (1, 2, 9, 11, 15, 19):
    try: os.kill(1, number)
    except PermissionError: pass  # where Landlock keeps signals within the environment
child = subprocess.Popen(["/bin/sleep", "60"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(-1, signal.SIGTERM)
out = [child.wait(), os.path.exists("/proc/1")]
"""
    ) == [-signal.SIGTERM, True]


def test_daemons_do_not_outlive_a_call_that_ends_the_worker(node, inside):
    """They ignore every signal that can be ignored, left the session, and closed the lines to the node."""
    mark = f"survivor-{os.getpid()}"
    with pytest.raises(Failed):
        inside(
            """
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                continue
        os.closerange(0, 1024)
        if os.fork():
            os._exit(0)
        os.execv(sys.executable, ["python3", "-I", "-S", "-c", "import time; time.sleep(600)", mark])
time.sleep(0.5)
os._exit(3)
""",
            mark=mark,
        )
    assert inside("out = [open('/proc/' + d + '/cmdline').read() for d in os.listdir('/proc') if d.isdigit()]").count(mark) == 0
    assert _named(mark) == []


def test_an_environment_shares_neither_files_nor_ipc_with_another(aws, deploy, inside):
    """The same account, two functions: one leaves things about, the other looks for them."""
    inside(
        """
write("/tmp/left"); write("/dev/shm/left")
call("shmget", 4711, 4096, 0o1666)
call("msgget", 4711, 0o1666)
"""
    )
    source = SOURCE + "\nhandler_of_another = handler\n"
    other = deploy(source, handler="app.handler_of_another")
    code = """
out = [tried(open, "/tmp/left"), tried(open, "/dev/shm/left"), tried(call, "shmget", 4711, 4096, 0), tried(call, "msgget", 4711, 0)]
"""
    answer = json.loads(aws.invoke(FunctionName=other, Payload=json.dumps({"code": code}))["Payload"].read())
    assert answer == ["ENOENT"] * 4


def _named(mark):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(entry)
    return found


def test_no_signal_and_no_priority_reaches_beyond_the_environment(node, inside):
    """Whatever number a process has, only its own are there to be named; "all of my user's" are those."""
    everybody = {pid: os.getpriority(os.PRIO_PROCESS, pid) for pid in node.processes()}
    found = inside(
        """
own = {int(d) for d in os.listdir("/proc") if d.isdigit()}
found = set()
for pid in range(2, 70_000):
    if pid not in own:
        found.add(tried(os.kill, pid, 9))
out = [sorted(found), tried(os.killpg, 1, 9), tried(os.setpriority, os.PRIO_USER, 0, 15), os.getpriority(os.PRIO_PROCESS, 0)]
out.append(os.readlink("/proc/self/ns/pid"))
"""
    )
    assert found[0] == ["ESRCH"]
    assert found[1] in ("ESRCH", "EPERM")
    assert found[2:4] == ["done", 15]
    with pytest.raises(Failed):
        inside("os._exit(0)")
    for pid, priority in everybody.items():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != found[4]:  # its own shell's first process is the attacker's to slow down
                assert os.getpriority(os.PRIO_PROCESS, pid) == priority
        except (ProcessLookupError, FileNotFoundError):
            continue  # the attacker itself


def test_a_daemon_that_outlives_its_call_ends_with_its_environment(node, aws, deploy):
    """A double fork, a session of its own, every signal ignored, no line to the node: the call succeeds and leaves it behind."""
    mark = f"daemon-{os.getpid()}"
    name = deploy(SOURCE)
    code = """
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in set(range(1, 32)) - {9, 19}:
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, 1024)
    os.execv(sys.executable, ["python3", "-I", "-S", "-c", "import time; time.sleep(600)", mark])
os.wait()
out = "done"
"""
    payload = json.dumps({"code": code, "with": {"mark": mark}})
    assert aws.invoke(FunctionName=name, Payload=payload)["Payload"].read() == b'"done"'
    aws.delete_function(FunctionName=name)
    end_s = time.monotonic() + 30
    while _named(mark) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert _named(mark) == []


def test_a_daemon_with_the_wire_in_its_hands_answers_no_call(inside):
    """It goes on holding both lines after the process that was called has died: the node gives up the lines with the process."""
    with pytest.raises(Failed):
        inside(
            """
if libc.fork() == 0:
    os.setsid()
    from ondol_guest import frames
    time.sleep(0.3)
    while True:
        try:
            for n in range(1, 50):
                os.write(WIRE, frames.pack_meta(frames.RESULT, n, {}, b'"forged"'))
        except OSError:
            os._exit(0)
time.sleep(0.1)
os._exit(3)
"""
        )
    for word in ("one", "two", "three"):
        assert inside(f"out = {word!r}") == word


def test_accounts_share_neither_hash_seed_nor_address_layout():
    """Children of one zygote do; and a zygote is one account's."""
    reason = keepers.why_not(None if os.geteuid() == 0 else os.geteuid())
    if reason:
        pytest.skip(reason)
    code = "result = [hash('ondol'), id(len), [l.split('-')[0] for l in open('/proc/self/maps') if 'libc' in l][:1]]"

    async def seen():
        async with keepers.running_keeper(None if os.geteuid() == 0 else os.geteuid()) as kept:
            first = await (await kept.inside(account="000000000001")).run(code)
            again = await (await kept.inside(account="000000000001")).run(code)
            other = await (await kept.inside(account="000000000002")).run(code)
            return first, again, other

    first, again, other = asyncio.run(seen())
    assert first == again
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))


def test_accounts_are_different_users_of_the_kernel_where_the_node_is_root():
    if os.geteuid() != 0 or keepers.why_not(None):
        pytest.skip("needs root: an ordinary user's node has one user for all")

    async def seen():
        async with keepers.running_keeper(None) as kept:
            insides = [await kept.inside(account=f"00000000000{n}") for n in (1, 2)]
            names = [await each.run("import os; result = [os.getuid(), os.readlink('/proc/self/ns/user')]") for each in insides]
            users = {Path(f"/proc/{pid}").stat().st_uid for pid in kept.processes()}
            return names, users

    names, users = asyncio.run(seen())
    assert [name[0] for name in names] == [993, 993]
    assert names[0][1] != names[1][1]
    assert {2_000_000, 2_000_001} <= users


def test_a_daemon_gets_no_processor_while_its_environment_idles(aws, deploy, counted):
    """Frozen with it, and thawed by the next call: what it wrote down has a gap."""
    if "v2" not in counted:
        pytest.skip("no control group of version 2 can be written to")
    name = deploy(SOURCE)
    start = """
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 1024)
    with open("/tmp/ticks", "w", buffering=1) as file:
        while True:
            print(time.monotonic(), file=file)
            time.sleep(0.02)
out = "started"
"""
    look = """
ticks = [float(line) for line in open("/tmp/ticks")]
out = max(later - earlier for earlier, later in zip(ticks, ticks[1:]))
time.sleep(0.1)
"""

    def told(code):
        return json.loads(aws.invoke(FunctionName=name, Payload=json.dumps({"code": code}))["Payload"].read())

    assert told(start) == "started"
    time.sleep(FREEZE_S + IDLE_S)
    told("time.sleep(0.2)")  # the call that thaws it: what comes behind the gap is written meanwhile
    assert told(look) > IDLE_S / 2
