"""Reaching what lives beside: init, other environments, other functions, other accounts; and staying."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ondol.testing.hostile import SOURCE, Failed

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
    assert commands[0] == "cat"


def test_init_and_everybody_else_outlive_a_kill_of_all(inside):
    assert inside(
        """
for number in (1, 2, 9, 11, 15, 19):
    os.kill(1, number)
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
