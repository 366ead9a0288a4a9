"""What a warm call may cost, in what noise cannot move: system calls, disk, processes."""

import json
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
