"""Asynchronous calls under random kills, and on a disk that fills. Not for every day: `make soak`.

ONDOL_SOAK_ASYNC_KILLS   how many kills (200)      ONDOL_SOAK_EVENTS   during how many accepted events (50000)
ONDOL_SOAK_SEED          of the draws (the time, printed)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from ondol.testing import leaks, node as nodes
from ondol.testing.load import HEARD, REFUSALS, Ear, client, deploy, until
from ondol.testing.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("ONDOL_SOAK_ASYNC_KILLS", "200"))
EVENTS = int(os.environ.get("ONDOL_SOAK_EVENTS", "50000"))
SEED = int(os.environ.get("ONDOL_SOAK_SEED", str(int(time.time()))))
VICTIMS = ["guest", "init", "zygote", "inner", "keeper", "front", "helper", "desk", "supervisor", "everybody"]
FUNCTIONS, SENDERS = 4, 4
RECOVER_S_MAX = 20.0
#: A function whose process was killed is tried again after one minute, then after two; and some for a busy machine.
SETTLED_S_MAX = 400.0
#: Between what a killed try had said and the kill, at most: the try's length, and its answer's way to the disk.
END_S_MAX = 5.0

SAYING = """
import socket
def handler(event, context):
    with socket.create_connection(('127.0.0.1', event['port']), 10) as line:
        line.sendall(event['say'].encode() + b'\\n')
        line.recv(1)
"""


class Senders:
    """Clients that send events without pause until they are told to stop, or enough were accepted."""

    def __init__(self, node, ear, most):
        self.node, self.ear, self.most = node, ear, most
        #: word -> request id, of what was acknowledged.
        self.accepted, self.counts, self.wrong = {}, Counter(), []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(SENDERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def done(self):
        return len(self.accepted) >= self.most

    def _send(self, number):
        node, aws = self.node, client(self.node)
        while not self._over.is_set():
            if self.done():
                self._over.wait(0.1)
                continue
            if self.node is not node:
                node, aws = self.node, client(self.node)
            word = uuid.uuid4().hex
            event = json.dumps({"say": word, "port": self.ear.port})
            try:
                answer = aws.invoke(FunctionName=f"f{number % FUNCTIONS}", InvocationType="Event", Payload=event)
                self.accepted[word] = answer["ResponseMetadata"]["RequestId"]
            except ClientError as error:
                self.counts["refused"] += 1
                if error.response["Error"]["Code"] not in REFUSALS:
                    self.wrong.append(str(error))
                self._over.wait(0.05)
            except BotoCoreError:
                self.counts["cut off"] += 1
                self._over.wait(0.05)
            except Exception as error:
                self.wrong.append(f"a client failed: {error!r}")
                self._over.wait(1)


def deployed(node):
    aws = node.client()
    for number in range(FUNCTIONS):
        deploy(aws, f"f{number}", source=SAYING)
        aws.get_waiter("function_active_v2").wait(FunctionName=f"f{number}", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})


def listed(node, state):
    """Every event that the node shows in a state: id -> event."""
    found, after = {}, ""
    while True:
        page = json.loads(node.http("GET", f"/ondol/v1/events?state={state}&limit=1000{after}").data)
        found |= {event["id"]: event for event in page["events"]}
        if "next" not in page:
            return found
        after = f"&after={page['next']}"


def answers(node):
    with contextlib.suppress(ClientError, BotoCoreError):
        client(node).get_account_settings()
        return True
    return False


class Campaign:
    """Kills, when they were, and what the node looks like after each."""

    def __init__(self, node, senders, draw):
        self.node, self.senders, self.draw = node, senders, draw
        self.moments, self.counts, self.recovered_s, self.failures = [], Counter(), [], []

    def kill(self, victim):
        roles = leaks.roles(self.node)
        pids = [pid for each in roles.values() for pid in each] if victim == "everybody" else roles.get(victim, [])
        if not pids:
            return
        self.moments.append(time.monotonic())
        for pid in pids if victim == "everybody" else [self.draw.choice(pids)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.counts[victim] += 1
        if victim in ("supervisor", "everybody"):
            self.node.process.wait()
            again = self.node.restart()
            self.node.process, self.node.endpoint, self.node.credentials = again.process, again.endpoint, again.credentials
            self.senders.node = again
        try:
            self.recovered_s.append(until(lambda: answers(self.node), RECOVER_S_MAX))
        except TimeoutError:
            self.failures.append(f"{victim}: the node did not recover: {self.node.said()[-3000:]}")

    def unexcused(self, ear):
        """Words heard more than once although nothing was killed between one time and the next, nor shortly before."""
        found = []
        for word, moments in ear.moments.items():
            for first, again in zip(moments, moments[1:], strict=False):
                if not any(first - END_S_MAX <= kill <= again for kill in self.moments):
                    found.append(f"{word} ran again {again - first:.1f} s later")
        return found


def test_random_kills_lose_no_accepted_event(capsys):
    draw, begun_s, ear = random.Random(SEED), time.monotonic(), Ear()
    with running_node(*HEARD) as node:
        deployed(node)
        with Senders(node, ear, EVENTS) as senders:
            campaign = Campaign(node, senders, draw)
            deck = []
            while sum(campaign.counts.values()) < KILLS or not senders.done():
                deck = deck or draw.sample(VICTIMS, len(VICTIMS))
                time.sleep(draw.uniform(0.2, 1.5))
                if sum(campaign.counts.values()) < KILLS:
                    campaign.kill(deck.pop())
                if senders.done() and sum(campaign.counts.values()) < KILLS:
                    senders.most += EVENTS // 10  # events as long as there are kills
        sent_s = time.monotonic() - begun_s
        dead = {}
        with contextlib.suppress(TimeoutError):
            until(lambda: not listed(node, "waiting") and not listed(node, "running"), SETTLED_S_MAX)
        dead = listed(node, "dead")
        accepted = senders.accepted
        lost = [word for word, request in accepted.items() if word not in ear.heard and request not in dead]
        again = sum(count - 1 for count in ear.heard.values())
        unexcused = campaign.unexcused(ear)
        with capsys.disabled():
            print(f"\nseed {SEED}: {sum(campaign.counts.values())} kills {dict(campaign.counts)}")
            print(
                f"{len(accepted)} events accepted in {sent_s:.0f} s, {dict(senders.counts)}; all over after {time.monotonic() - begun_s:.0f} s"
            )
            print(f"{len(lost)} lost; {len(dead)} given up: {dict(Counter(event['reason'] for event in dead.values()))}")
            print(f"{again} runs more than one, {len(unexcused)} of them without a kill that excuses it")
            print(f"{len(set(ear.heard) - set(accepted))} ran that were not acknowledged")
            print(
                f"answers again after {statistics.median(campaign.recovered_s):.2f} s in the median, {max(campaign.recovered_s):.2f} at most"
            )
        assert campaign.failures + senders.wrong == []
        assert lost == []
        assert unexcused == []
    ear.close()


@pytest.fixture
def small_disk():
    """A file system of 96 MiB for a node's data."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system for a node's data")
    with tempfile.TemporaryDirectory(prefix="ondol-small-") as place:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=96m,mode=755", "ondol-small", place],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_and_is_freed_loses_no_accepted_event(small_disk, capsys):
    ear = Ear()
    node = nodes.start(small_disk / "data", "--stock-shells", "2")
    try:
        deployed(node)
        full = small_disk / "ballast"
        with Senders(node, ear, EVENTS) as senders:
            for _ in range(3):
                until(lambda: senders.accepted, 60)
                filled = fill(full)
                refused = senders.counts["refused"]
                until(lambda: senders.counts["refused"] > refused + 20, 60)  # noqa: B023  # asked at once
                full.unlink()
                before = len(senders.accepted)
                until(lambda: len(senders.accepted) > before + 50, 60)  # noqa: B023  # asked at once
        until(lambda: not listed(node, "waiting") and not listed(node, "running"), SETTLED_S_MAX)
        dead = listed(node, "dead")
        lost = [word for word, request in senders.accepted.items() if word not in ear.heard and request not in dead]
        with capsys.disabled():
            print(f"\n{filled >> 20} MiB filled the disk; {len(senders.accepted)} events accepted, {dict(senders.counts)}")
            print(
                f"{len(lost)} lost, {len(dead)} given up, {sum(count - 1 for count in ear.heard.values())} runs more than one"
            )
        assert (lost, senders.wrong) == ([], [])
    finally:
        nodes.ended(node)
        ear.close()


def fill(path):
    """Take all the room there is; how many bytes."""
    size = 0
    with path.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            size += ballast.write(bytes(65536))
    return size
