"""Clients that keep a node busy while something is done to it: calls, deferred calls, deploys; and what each was promised.

Every call carries a word of its own and every function answers with its own name, so that an answer given to the wrong caller
is seen. Deferred calls and deploys are remembered from the moment they were acknowledged. A client may be refused or cut off
while a part of the node is away; it may never be told something wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import socketserver
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError

from ondol.testing.node import Node, zipped

ROLE: Final = "arn:aws:iam::000000000000:role/any"
FUNCTION: Final = """
import socket, time
NAME = {name!r}
def handler(event, context):
    time.sleep(event.get('sleep', 0))
    if 'say' in event:
        with socket.create_connection(('127.0.0.1', event['port']), 10) as line:
            line.sendall(event['say'].encode() + b'\\n')
            line.recv(1)
    return [NAME, event.get('word')]
"""
#: Answers that a client gets while a part of the node is being started again.
REFUSALS: Final = frozenset(
    {"ServiceException", "TooManyRequestsException", "InternalFailure", "ServiceUnavailable", "500", "502", "503"}
)
CLIENT_S_MAX: Final = 15
#: Flags of a node whose functions an `Ear` can hear: they have to reach this machine. (It forwards packets from then on.)
HEARD: Final = ("--network", "host")
#: Tags of such a function.
HEARING: Final = {"ondol:network": "host"}


class Ear:
    """Hears the words that functions say, whatever becomes of their answers and logs."""

    def __init__(self) -> None:
        heard = self.heard = Counter[str]()
        #: When each word was heard (monotonic), in order.
        moments = self.moments = defaultdict[str, list[float]](list)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    word = self.rfile.readline().decode()
                    if word.endswith("\n"):
                        moments[word[:-1]].append(time.monotonic())
                        heard[word[:-1]] += 1
                        self.wfile.write(b"!")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Load:
    """Use as a context: `with Load(node) as load`. `load.node` may be replaced when the node was started again."""

    def __init__(self, node: Node, *, functions: int = 4, callers: int = 3, pause_s: float = 0.05, seed: int = 0) -> None:
        self.node = node
        self.ear = Ear()
        self.counts: Counter[str] = Counter()
        #: Promises that were broken, as sentences.
        self.wrong: list[str] = []
        #: Words of acknowledged deferred calls.
        self.accepted: set[str] = set()
        #: Names of acknowledged functions.
        self.deployed: set[str] = set()
        self.names = [f"steady-{number}" for number in range(functions)]
        self._callers = callers
        self._pause_s = pause_s
        self._seed = seed
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        aws = self.node.client()
        for name in self.names:
            deploy(aws, name)
            aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
        work = [self._call] * self._callers + [self._defer, self._deploy]
        for number, each in enumerate(work):
            draw = random.Random(self._seed * 100 + number)  # noqa: S311
            self._threads.append(threading.Thread(target=self._repeat, args=(each, draw), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.ear.close()

    def stop(self) -> None:
        """No more work from now on; what is under way is waited for."""
        self._over.set()
        for thread in self._threads:
            thread.join(CLIENT_S_MAX * 4)
        self._threads = []

    def unheard(self) -> set[str]:
        """Acknowledged deferred calls that have not run yet."""
        return self.accepted - set(self.ear.heard)

    def missing(self) -> set[str]:
        """Acknowledged functions that the node does not know, or cannot run."""
        aws = client(self.node)
        missing = set()
        for name in self.deployed | set(self.names):
            try:
                answer = aws.invoke(FunctionName=name, Payload=json.dumps({"word": name}))
                if json.loads(answer["Payload"].read()) != [name, name]:
                    missing.add(f"{name}: {answer}")
            except (ClientError, BotoCoreError) as error:
                missing.add(f"{name}: {error}")
        return missing

    def serves(self) -> bool:
        """Whether each steady function answers now."""
        aws = client(self.node)
        return all(self._one_call(aws, name) for name in self.names)

    # The clients -------------------------------------------------------------------------------------------------------
    def _repeat(self, work: Callable[[Any, random.Random], None], draw: random.Random) -> None:
        node, aws = self.node, client(self.node)
        while not self._over.is_set():
            if self.node is not node:
                node, aws = self.node, client(self.node)
            try:
                work(aws, draw)
            except Exception as error:
                self.wrong.append(f"a client failed: {error!r}")
            self._over.wait(draw.random() * 2 * self._pause_s)

    def _call(self, aws: Any, draw: random.Random) -> None:
        self._one_call(aws, draw.choice(self.names), draw.choice([0, 0, 0, 0.3]))

    def _one_call(self, aws: Any, name: str, sleep_s: float = 0) -> bool:
        word = uuid.uuid4().hex
        with self._refusals("calls") as ended:
            answer = aws.invoke(FunctionName=name, Payload=json.dumps({"word": word, "sleep": sleep_s}))
            payload = answer["Payload"].read()
            if "FunctionError" in answer:
                self.counts["calls whose process was killed"] += 1
            elif json.loads(payload) != [name, word]:
                self.wrong.append(f"{name} was asked {word} and answered {payload!r}")
            else:
                ended.append(True)
                self.counts["calls answered"] += 1
        return bool(ended)

    def _defer(self, aws: Any, draw: random.Random) -> None:
        word = uuid.uuid4().hex
        event = {"say": word, "port": self.ear.port, "sleep": draw.choice([0, 0, 0.2])}
        with self._refusals("deferred calls"):
            aws.invoke(FunctionName=draw.choice(self.names), InvocationType="Event", Payload=json.dumps(event))
            self.accepted.add(word)
            self.counts["deferred calls accepted"] += 1

    def _deploy(self, aws: Any, draw: random.Random) -> None:
        name = f"made-{len(self.deployed)}-{uuid.uuid4().hex[:6]}"
        with self._refusals("deploys"):
            deploy(aws, name, ballast_bytes=draw.choice([0, 1_000_000, 4_000_000]))
            self.deployed.add(name)
            self.counts["deploys acknowledged"] += 1
        self._over.wait(self._pause_s * 10)

    @contextlib.contextmanager
    def _refusals(self, what: str) -> Iterator[list[bool]]:
        """Counts what a client may meet; anything else is wrong."""
        ended: list[bool] = []
        try:
            yield ended
        except ClientError as error:
            code = error.response["Error"]["Code"]
            self.counts[f"{what} refused"] += 1
            if code not in REFUSALS:
                self.wrong.append(f"{what}: {error}")
        except BotoCoreError:
            self.counts[f"{what} cut off"] += 1


def client(node: Node) -> Any:
    """One that waits for no more than a restart."""
    return node.client(read_timeout=CLIENT_S_MAX, connect_timeout=2)


def deploy(aws: Any, name: str, *, source: str = FUNCTION, ballast_bytes: int = 0, timeout_s: int = 10) -> None:
    """A function; unless `source` says otherwise, one that answers with its name. It has the machine's network where it may."""
    files: dict[str, str | bytes] = {"app.py": source.replace("{name!r}", repr(name))}
    if ballast_bytes:
        files["ballast"] = os.urandom(ballast_bytes)
    code = {"ZipFile": zipped(files)}
    settings = {"Runtime": "python3.11", "Handler": "app.handler", "Role": ROLE, "Code": code, "Timeout": timeout_s}
    try:
        aws.create_function(FunctionName=name, Tags=HEARING, **settings)
    except aws.exceptions.InvalidParameterValueException:  # this node gives no function that network
        aws.create_function(FunctionName=name, **settings)


def until(see: Callable[[], Any], seconds_max: float) -> float:
    """Seconds until `see` gives something true; raises TimeoutError."""
    begun_s = time.monotonic()
    while not see():
        if time.monotonic() - begun_s > seconds_max:
            raise TimeoutError(f"not within {seconds_max} s")
        time.sleep(0.02)
    return time.monotonic() - begun_s


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
