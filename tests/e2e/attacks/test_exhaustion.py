"""Using the machine up, from inside a function: its own limits are what it meets, and its neighbours go on."""

from __future__ import annotations

import json
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ondol.keeper.cgroups import SOCKETS_BYTES_MAX
from ondol.testing.hostile import Failed
from ondol.testing.patience import PATIENCE

#: More than the stock has ready, so that some must be made while the attack goes on.
STARTS = 16
#: Says which environment it is.
STARTED = f"""
import time, uuid
ME = str(uuid.uuid4())
def handler(event, context):
    time.sleep({2 * PATIENCE})
    return ME
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_a_bomb_of_threads_ends_at_the_limit(inside):
    started = inside(
        """
import threading
threading.stack_size(32768)
end, out = threading.Event(), 0
try:
    while out < 20000:
        threading.Thread(target=end.wait).start()
        out += 1
except RuntimeError:
    pass
end.set()
"""
    )
    assert 0 < started < 20000


def test_a_bomb_of_forks_ends_with_its_environment(inside):
    with pytest.raises(Failed):
        inside("""
while True:
    try:
        os.fork()
    except OSError:
        continue
""")
    assert len(inside("out = [d for d in os.listdir('/proc') if d.isdigit()]")) == 2


def test_a_heap_without_end_ends_its_environment_only(inside):
    """By the control group, or where there is none by the process's own bound."""
    with pytest.raises(Failed, match="OutOfMemory|signal: killed|MemoryError|Runtime.ExitError"):
        inside("keep = []\nwhile True: keep.append(bytearray(b'x') * (8 << 20))")


@pytest.mark.parametrize(
    "bomb",
    [
        "import mmap\nkeep = []\nwhile True: m = mmap.mmap(-1, 8 << 20); m.write(b'x' * (8 << 20)); keep.append(m)",
        "keep = []\nwhile True:\n    fd = os.memfd_create('x'); os.write(fd, b'x' * (8 << 20)); keep.append(fd)",
    ],
    ids=["anonymous map", "memfd"],
)
@pytest.mark.usefixtures("memory_counted")
def test_a_memory_bomb_ends_its_environment_only(inside, bomb):
    with pytest.raises(Failed, match="OutOfMemory|signal: killed|MemoryError|Runtime.ExitError"):
        inside(bomb)


def test_shared_memory_and_tmp_are_bounded_in_bytes_and_files(inside, disks):
    found = inside(
        """
def fill(path, most):
    with open(path, "wb", buffering=0) as file:
        written = 0
        try:
            while written < most:
                written += file.write(bytes(1 << 20))
        except OSError as error:
            os.unlink(path)
            return [written >> 20, errno.errorcode[error.errno]]
    return [written >> 20, "no end"]

def litter(directory, most):
    os.mkdir(directory)
    try:
        for n in range(most):
            os.close(os.open(f"{directory}/{n}", os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        made, why = n, errno.errorcode[error.errno]
    else:
        made, why = most, "no end"
    __import__("shutil").rmtree(directory)
    return [made, why]

out = {"shm files": litter("/dev/shm/d", 20000), "shm": fill("/dev/shm/big", 100 << 20)}
if disks:
    out["tmp"] = fill("/tmp/big", 700 << 20)
""",
        disks=disks,
    )
    assert found["shm files"][1] == "ENOSPC"
    assert found["shm"][1] == "ENOSPC"
    assert found["shm"][0] <= 64
    if disks:
        assert found["tmp"][1] in ("ENOSPC", "EDQUOT"), found
        assert found["tmp"][0] <= 512


def test_a_stopped_deaf_function_is_ended_by_its_time(aws, deploy):
    source = """
import os, signal, threading
for number in (1, 2, 3, 15):
    signal.signal(number, signal.SIG_IGN)
def handler(event, context):
    if event:
        os.closerange(0, 1024)
        os.kill(os.getpid(), signal.SIGSTOP)
    return "fresh"
"""
    name = deploy(source, Timeout=1)
    response = aws.invoke(FunctionName=name, Payload=b"1")
    assert "FunctionError" in response
    assert aws.invoke(FunctionName=name, Payload=b"0")["Payload"].read() == b'"fresh"'


def test_descriptors_end_at_their_limit_in_every_process(inside):
    most, why = inside(
        """
keep = []
try:
    while True:
        keep.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    why = errno.errorcode[error.errno]
out = [max(keep), why]
for fd in keep:
    os.close(fd)
"""
    )
    assert (most, why) == (1023, "EMFILE")


def test_tmp_is_bounded_in_files_depth_and_what_they_pretend_to_hold(inside, disks):
    """And a tree that is made to be slow to remove goes with its environment all the same."""
    if not disks:
        pytest.skip("without disks /tmp is watched: tests/e2e/test_shells_life.py fills it")
    made, why, depth, sparse = inside(
        """
os.mkdir("/tmp/many"); os.chdir("/tmp/many")
why = "no end"
try:
    for made in range(300_000):
        os.close(os.open(str(made), os.O_CREAT | os.O_WRONLY))
except OSError as error:
    why = errno.errorcode[error.errno]
for n in range(1000):
    os.unlink(str(n))
os.chdir("/tmp")
depth = 0
try:
    for depth in range(900):
        os.mkdir("온" * 80); os.chdir("온" * 80)
except OSError:
    pass
os.chdir("/tmp")
def sparse():
    with open("/tmp/sparse", "wb") as file:
        file.truncate(1 << 62)
out = [made, why, depth, tried(sparse)]
"""
    )
    assert made <= 200_000
    assert why in ("ENOSPC", "EDQUOT")
    assert depth > 100
    assert sparse == "EFBIG"
    with pytest.raises(Failed):
        inside("os._exit(1)")


@pytest.mark.parametrize(
    "spin",
    [
        "while True: pass",
        "import re; re.match('(a*)*b', 'a' * 64)",
        "for _ in range(6): threading.Thread(target=spin).start()",
        "[os.fork() for _ in range(3)]; spin()",
    ],
    ids=["loop", "expression that holds the interpreter", "threads", "processes"],
)
def test_a_busy_loop_ends_with_its_time(aws, deploy, spin):
    source = f"""
import os, signal, threading
def spin():
    while True:
        pass
def handler(event, context):
    for number in (1, 2, 3, 14, 15):
        signal.signal(number, signal.SIG_IGN)
    if event:
        {spin}
        while True:
            pass
    return sum(d.isdigit() for d in os.listdir("/proc"))
"""
    name = deploy(source, Timeout=1, MemorySize=128)
    response = aws.invoke(FunctionName=name, Payload=b"1")
    assert "timed out after 1.00 seconds" in response["Payload"].read().decode()
    assert aws.invoke(FunctionName=name, Payload=b"0")["Payload"].read() == b"2"


#: Things of which the kernel counts how many a user has, all of its processes together.
COUNTED = {
    # Descriptors in messages count against whoever's turn it is to send the next one.
    "descriptors under way": """
line, other = socket.socketpair()
kept.append((line, other))
fds = [os.open("/dev/null", os.O_RDONLY)] * 250
line.setblocking(False)
while True:
    socket.send_fds(line, [b"x"], fds)
""",
    "watched files": """
while True:
    call("inotify_init1", 0)
""",
    "pages of pipes": """
reader, writer = os.pipe()
while True:
    __import__("fcntl").fcntl(os.pipe()[1], 1031, 1 << 20)
""",
    "signals that wait": """
signal.pthread_sigmask(signal.SIG_BLOCK, {40})
while True:
    call("sigqueue", os.getpid(), 40, ctypes.c_void_p(0))
""",
    "message queues": """
for n in range(10_000):
    call("mq_open", b"/q%d" % n, os.O_CREAT | os.O_RDWR, 0o600, None)
""",
    "watched descriptors": """
sockets = [socket.socket() for _ in range(100)]
while True:
    kept.append(__import__("select").epoll())
    for each in sockets:
        kept[-1].register(each)
""",
}


def test_who_uses_up_what_its_kernel_user_may_have_keeps_no_other_function_from_starting(aws, deploy, function):
    """Environments of one account are one user to the kernel; the zygote and, without root, the node are it, too."""
    code = "kept, ends = [], {}\n"
    for what, hold in COUNTED.items():
        code += f"try:\n{textwrap.indent(hold, '    ')}\nexcept OSError as error:\n    ends[{what!r}] = errno.errorcode[error.errno]\n"
    payload = json.dumps({"code": code + f"time.sleep({6 * PATIENCE})\nout = ends"})
    name = deploy(STARTED, Timeout=int(30 * PATIENCE), MemorySize=128)
    with ThreadPoolExecutor(STARTS + 1) as elsewhere:
        attack = elsewhere.submit(lambda: json.loads(aws.invoke(FunctionName=function, Payload=payload)["Payload"].read()))
        time.sleep(2)
        starts = [elsewhere.submit(lambda: aws.invoke(FunctionName=name)["Payload"].read()) for _ in range(STARTS)]
        assert len({start.result() for start in starts}) == STARTS
        ends = attack.result()
    assert set(ends) == set(COUNTED), ends
    assert ends["descriptors under way"] == "ETOOMANYREFS"


def test_a_flood_of_log_without_lines_ends_with_its_call(inside):
    inside(
        """
end = time.monotonic() + 2
piece = b"x" * 65536
while time.monotonic() < end:
    os.write(1, piece)
    os.write(2, b"\\xa5\\x5a\\x00\\x03" + struct.pack(">IQ", 1 << 26, 0))
"""
    )


@pytest.mark.usefixtures("memory_counted")
def test_the_kernels_memory_for_connections_is_bounded(inside):
    """Full buffers of connections to itself: memory that belongs to no process, of which the machine has so much for all."""
    before = pages_of_tcp()
    try:
        pages = inside(
            """
listener = socket.create_server(("127.0.0.1", 0), backlog=500)
kept, piece = [], bytes(1 << 20)
for _ in range(400):
    kept += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    for each in kept[-2:]:
        each.setblocking(False)
        try:
            while True:
                each.send(piece)
        except BlockingIOError:
            pass
out = next(int(line.split()[-1]) for line in open("/proc/net/sockstat") if line.startswith("TCP:"))
"""
        )
    except Failed:
        return  # version 2 counts it as the function's own memory, and that was used up
    # Each connection may hold one segment each way, whatever the limit says.
    assert pages - before < (SOCKETS_BYTES_MAX + 800 * 128 * 1024) // 4096


def pages_of_tcp():
    """What all connections of the machine hold now: the kernel keeps one count."""
    return next(int(line.split()[-1]) for line in open("/proc/net/sockstat") if line.startswith("TCP:"))
