"""What a warm call may cost, in what noise cannot move: system calls, disk, processes."""

import json
import os
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

CALLS = 200


def front_of(node):
    for pid in node.processes():
        if b"\0front\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("the node has no front")


def counted(pid):
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def settled(node):
    before = None
    while before != (now := node.processes()):
        before = now
        time.sleep(0.3)


@pytest.fixture
def warm(aws, deploy):
    called = deploy("def handler(event, context):\n    return event\n")

    def call():
        return aws.invoke(FunctionName=called, Payload=b'{"n": 1}')["Payload"].read()

    for _ in range(20):  # the memory of the first calls is asked for, logs begin, connections open
        call()
    return call


def test_a_warm_call_costs_the_front_few_system_calls_and_no_disk(node, warm):
    front = front_of(node)
    before = counted(front)
    for _ in range(CALLS):
        assert json.loads(warm()) == {"n": 1}
    after = counted(front)
    # The request, the answer of the guest, a look into the log pipe, and the loop's own wake-ups; a batch of logs now and then.
    assert after["syscr"] - before["syscr"] <= 6 * CALLS
    # The call to the guest, the response to the client.
    assert after["syscw"] - before["syscw"] <= 3 * CALLS
    assert after["write_bytes"] == before["write_bytes"]
    assert after["read_bytes"] == before["read_bytes"]


def test_warm_calls_start_no_process_and_open_nothing(node, warm):
    front = front_of(node)
    settled(node)  # the place of the shell that this function took is filled again in the background
    processes, open_before = set(node.processes()), descriptors(front)
    for _ in range(CALLS):
        warm()
    assert set(node.processes()) <= processes  # those of other functions may end meanwhile
    assert descriptors(front) <= open_before + 2


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_handler_may_use_all_cpus_wherever_its_guest_waits_for_the_next_call(node, aws, deploy):
    """Where calls come one at a time the guest waits on the front's CPU: that is nothing a handler may see."""
    code = """
import os
def handler(event, context):
    if event:
        os.sched_setaffinity(0, event)
    return sorted(os.sched_getaffinity(0))
"""
    called = deploy(code)
    invoke = lambda payload: json.loads(aws.invoke(FunctionName=called, Payload=json.dumps(payload))["Payload"].read())  # noqa: E731
    for _ in range(100):
        assert invoke([]) == sorted(os.sched_getaffinity(0))
    assert sum(len(os.sched_getaffinity(pid)) == 1 for pid in node.processes()) == 2  # the front, and the guest that it called
    own = [min(os.sched_getaffinity(0))]
    assert invoke(own) == own
    for _ in range(100):  # what it chose itself stays
        assert invoke([]) == own
