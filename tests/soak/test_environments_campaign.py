"""Environments made and ended by the thousand, through a whole node: nothing is left of them, and the last are made as fast as the
first. Not for every day: `make soak`.

ONDOL_SOAK_ENVIRONMENTS   how many (10,000)
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from ondol.testing import census, leaks
from ondol.testing.node import running_node, zipped

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(0)]

ENVIRONMENTS = int(os.environ.get("ONDOL_SOAK_ENVIRONMENTS", "10000"))
#: Before anything is counted: caches that have a bound fill, interpreters' arenas grow to their size.
WARM_UP = min(500, ENVIRONMENTS)
#: Functions that take turns where there is room for fewer: nearly each call ends somebody's environment, and makes one.
FUNCTIONS, ROOM = 3, 2
MEMORY_MIB = 128
SLICE = min(1000, ENVIRONMENTS // 4)
SLOWER_MAX = 1.2
SETTLE_S_MAX = 60.0
#: What memory may grow by: the front and the desk keep records, log lines and sums, all with a bound.
GROWTH_KIB_MAX = {"keeper": 2048, "inner": 4096, "zygote": 1024, "supervisor": 4096, "front": 65_536, "desk": 131_072}
#: Connections, and files of the journal that are open or not at the moment of looking.
SPARE = {"descriptors: front": 8, "descriptors: desk": 12, "descriptors: supervisor": 2}

SOURCE = """
import uuid
ME = str(uuid.uuid4())
def handler(event, context):
    with open("/tmp/written", "w") as file:
        file.write(ME)
    print(ME)
    return ME
"""


def test_nothing_is_left_of_ten_thousand_environments():
    with running_node("--memory-mib-max", str(ROOM * MEMORY_MIB)) as node:
        client = node.client("lambda")
        names = [deployed(client, f"turn-{number}") for number in range(FUNCTIONS)]
        made, took_s, cpu_s = set(), [], []

        def call(number):
            begun_s = time.monotonic()
            response = client.invoke(FunctionName=names[number % FUNCTIONS])
            assert "FunctionError" not in response
            who = json.loads(response["Payload"].read())
            if who not in made:  # the pool may have kept the one that is called next
                took_s.append(time.monotonic() - begun_s)
                made.add(who)

        def see():
            return census.take(leaks.roles(node), node.data, node.id)

        numbers = itertools.count()
        while len(made) < WARM_UP:
            call(next(numbers))
        before = quiet(see)
        took_s.clear()
        made.clear()
        for until in (0, SLICE, ENVIRONMENTS - SLICE, ENVIRONMENTS):
            while len(made) < until:
                call(next(numbers))
            cpu_s.append(processor_s(node))
        after = census.settled(lambda: quiet(see), before, SETTLE_S_MAX)
        first_s, last_s = sum(took_s[:SLICE]), sum(took_s[-SLICE:])
        first_cpu_s, last_cpu_s = cpu_s[1] - cpu_s[0], cpu_s[3] - cpu_s[2]
        print(
            f"\n{ENVIRONMENTS:,} environments in {sum(took_s):.0f} s; the first {SLICE:,} in {first_s:.1f} s, the last in {last_s:.1f} s"
        )
        print(f"processor time of the node: {first_cpu_s:.1f} s and {last_cpu_s:.1f} s")
        print(census.table(before, after))
        assert not census.grown(before, after, spare=SPARE)
        for role, most in GROWTH_KIB_MAX.items():
            assert after[f"rss KiB: {role}"] <= before[f"rss KiB: {role}"] + most, role
        # By the clock, or, where the machine has other work to do as well, by what the node itself used.
        assert min(last_s / first_s, last_cpu_s / first_cpu_s) <= SLOWER_MAX


def processor_s(node):
    """What the node's processes used, and those that they have seen the end of."""
    ticks = 0
    for pid in (pid for pids in leaks.roles(node).values() for pid in pids):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def quiet(see):
    """A census that is the same, but for memory and files, as the one a moment before."""
    seen = see()
    while True:
        time.sleep(1.0)
        again = see()
        if not census.grown(seen, again) and not census.grown(again, seen):
            return again
        seen = again


def deployed(client, name):
    client.create_function(
        FunctionName=name, Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": zipped({"app.py": SOURCE})}, MemorySize=MEMORY_MIB,
    )  # fmt: skip
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    return name
