"""A node with two fronts: one port, one catalog, one set of limits; and a front that is killed loses only what it was doing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from ondol.testing import leaks
from ondol.testing.load import deploy, until
from ondol.testing.node import running_node, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

#: Calls of the account at a time.
LIMIT = 8
RECOVER_S_MAX = 30.0
#: So many connections fall to one front alone once in 2^23 times.
CONNECTIONS = 24
SOURCE = """
import time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {number}
"""


@pytest.fixture(scope="module")
def two(possible):
    """A node with two fronts."""
    with running_node("--fronts", "2", "--concurrency-max", str(LIMIT)) as node:
        yield node


@pytest.fixture
def function(two, name):
    aws = two.client()
    deploy(aws, name, source=SOURCE.format(number=0))
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    yield name
    aws.delete_function(FunctionName=name)


def connected(node):
    """A client's connection, which stays with one front."""
    where = urlsplit(node.endpoint)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    connection.connect()
    return connection


def called(node, connection, name, **event):
    """The status, and what the function answered."""
    connection.request("POST", f"/ondol/v1/functions/{name}/invoke", json.dumps(event), {"x-ondol-key": node.key})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()).get("payload")


def fronts(node):
    """Their process ids, once both are there."""
    until(lambda: len(leaks.roles(node).get("front", [])) == 2, RECOVER_S_MAX)
    return leaks.roles(node)["front"]


def held_by(pid, node):
    """How many clients a front is connected to."""
    port = f":{urlsplit(node.endpoint).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1].endswith(port) and row[3] == "01"}
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(entry).removeprefix("socket:[").removesuffix("]") in inodes
        except OSError:
            continue
    return found


def at_once(node, name, count, seconds):
    """The statuses of so many calls at a time, each on a connection of its own."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        lines = [stack.enter_context(closing(connected(node))) for _ in range(count)]
        return Counter(threads.map(lambda line: called(node, line, name, sleep=seconds)[0], lines))


def test_both_fronts_serve(two, function):
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(connected(two))) for _ in range(CONNECTIONS)]
        assert [called(two, line, function) for line in lines] == [(200, 0)] * CONNECTIONS
        assert all(held_by(pid, two) > 0 for pid in fronts(two))


def test_after_an_update_no_front_runs_the_old_code(two, function):
    aws = two.client()
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(connected(two))) for _ in range(CONNECTIONS)]
        for number in range(1, 5):
            aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": SOURCE.format(number=number)}))
            aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.02, "MaxAttempts": 1000})
            assert {called(two, line, function)[1] for line in lines} == {number}


def test_the_account_s_limit_holds_across_fronts_exactly(two, function):
    for _ in range(3):
        assert at_once(two, function, LIMIT + 4, 1.0) == {200: LIMIT, 429: 4}


def test_a_front_alone_has_the_whole_limit_when_the_other_is_idle(two, function):
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(connected(two))) for _ in range(4 * LIMIT)]
        first = fronts(two)[0]
        mine = [line for line in lines if _is_held_by(first, line)]
        assert len(mine) > LIMIT
        with ThreadPoolExecutor(len(mine)) as threads:
            statuses = Counter(threads.map(lambda line: called(two, line, function, sleep=1.0)[0], mine))
        assert statuses == {200: LIMIT, 429: len(mine) - LIMIT}


def _is_held_by(pid, line):
    """Whether a front holds the other end of a connection."""
    here, there = (f":{address[1]:04X}" for address in (line.sock.getsockname(), line.sock.getpeername()))
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = [row[9] for row in rows if row[1].endswith(there) and row[2].endswith(here)]
    return any(f"[{inode}]" in os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())


def test_the_numbers_of_both_fronts_are_summed(two, function):
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(at_once, two, function, 6, 8.0)
        until(lambda: two.http("GET", "/ondol/v1/stats").json()["pool"]["busy"] == 6, RECOVER_S_MAX)
        until(lambda: 'ondol_environments{state="busy"} 6' in two.http("GET", "/metrics").data.decode(), RECOVER_S_MAX)
        assert running.result() == {200: 6}
    processes = two.http("GET", "/ondol/v1/stats").json()["processes"]
    assert [process["role"] for process in processes].count("front") == 2


def test_concurrency_is_measured_over_both_fronts(two, function):
    at_once(two, function, LIMIT, 1.5)

    def most():
        answer = two.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda", MetricName="ConcurrentExecutions", StartTime=time.time() - 300, EndTime=time.time() + 60,
            Period=60, Statistics=["Maximum"], Dimensions=[{"Name": "FunctionName", "Value": function}],
        )  # fmt: skip
        return max((point["Maximum"] for point in answer["Datapoints"]), default=0)

    until(lambda: most() == LIMIT, RECOVER_S_MAX)


def test_a_killed_front_loses_only_the_calls_it_had(two, function):
    witness = leaks.Witness()
    pids = fronts(two)
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(connected(two))) for _ in range(LIMIT)]
        results = {}

        def call(line):
            try:
                results[line] = called(two, line, function, sleep=3.0)[0]
            except (OSError, http.client.HTTPException) as error:
                results[line] = type(error).__name__

        doomed = [line for line in lines if _is_held_by(pids[0], line)]
        threads = [threading.Thread(target=call, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        until(lambda: two.http("GET", "/ondol/v1/stats").json()["pool"]["busy"] == LIMIT, RECOVER_S_MAX)
        witness.look(two)
        os.kill(pids[0], signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert {line for line, result in results.items() if result != 200} == set(doomed)
        assert not any(isinstance(results[line], int) for line in doomed), "a connection that was cut, and no answer made up"
    fronts(two)
    left, _ = leaks.lasting(lambda: leaks.suspects(two, witness), 10)
    assert not left
    # At first calls wait for what the dead front had, and are not refused.
    until(lambda: at_once(two, function, LIMIT + 2, 1.0) == {200: LIMIT, 429: 2}, RECOVER_S_MAX)


def test_no_connection_is_refused_while_a_front_is_being_started_again(two, function):
    for pid in fronts(two):
        os.kill(pid, signal.SIGKILL)
        with ExitStack() as stack:
            lines = [stack.enter_context(closing(connected(two))) for _ in range(CONNECTIONS)]
            assert [called(two, line, function)[0] for line in lines] == [200] * CONNECTIONS
        fronts(two)


def test_accepted_calls_are_all_run_whichever_process_is_killed(possible, name):
    with running_node("--fronts", "2") as node:
        aws = node.client()
        deploy(aws, name, source=SOURCE.format(number=0))
        aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        accepted, over = [], threading.Event()

        def defer():
            client = node.client()
            while not over.wait(0.05):
                try:
                    client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"sleep": 0.2}')
                    accepted.append(time.monotonic())
                except (ClientError, BotoCoreError):
                    continue  # refused or cut off while something is away, and so not promised

        def accepts():
            before = len(accepted)
            until(lambda: len(accepted) >= before + 5, RECOVER_S_MAX)

        thread = threading.Thread(target=defer)
        thread.start()
        try:
            for victim in ("front", "desk", "front", "keeper"):
                accepts()
                os.kill(leaks.roles(node)[victim][-1], signal.SIGKILL)
                accepts()
                fronts(node)
        finally:
            over.set()
            thread.join()
        queue = lambda: node.http("GET", "/ondol/v1/stats").json()["queue"]  # noqa: E731
        until(lambda: queue()["waiting"] == 0, 90)
        assert queue()["dead"] == 0
