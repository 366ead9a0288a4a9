"""Deploying again whenever files change: what `ondol dev` and `ondol deploy --watch` do. One thread acts; others only tell it.

    watcher ─names─┐
    terminal ─lines─┼─> queue ─> Live.run: deploy what changed, call on request
    logs ─> printed as they come

A deploy that fails leaves what was deployed last in force, and says so; the next change is another try.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from ondol.cli import client, logs, package, watching
from ondol.cli import invoke as calls
from ondol.cli.deployment import Deployed, Wish, deploy_aws, deploy_web, recode_aws
from ondol.cli.node import Node
from ondol.cli.shape import Exit, Failure, foreign, note

#: Logs of the moment before the command began, too: clocks of two processes are read.
SINCE_MS: Final = 200
#: When the watcher surely watches.
AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is deployed, and how."""

    path: Path
    #: Its package is replaced at each change.
    wish: Wish
    contract: str
    #: The event of calls on request; None: event.json of the folder, else {}.
    event: str | None = None
    #: Call after each deploy.
    calls: bool = False


class Live:
    """One function, kept as its files are."""

    def __init__(self, where: Node, plan: Plan, memory: package.Memory) -> None:
        self._where = where
        self._plan = plan
        self._memory = memory
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._archive = b""
        self._deployed: Deployed | None = None
        self._api = client.aws(where, "lambda")

    def begun(self, done: Deployed) -> None:
        """The first deploy was made by the caller."""
        self._deployed, self._archive = done, self._plan.wish.package.archive

    def run(self, *, listen: bool, show_logs: bool) -> None:
        """Until Ctrl-C, which raises KeyboardInterrupt. `listen`: lines of standard input ask for calls."""
        self._tell(self._watch)
        if listen:
            self._tell(self._read)
        if show_logs:
            self._tell(self._follow)
        # What changed between the first deploy and the watcher's beginning.
        again = threading.Timer(AGAIN_S, self._queue.put, (("changed", frozenset()),))
        again.daemon = True
        again.start()
        try:
            if self._plan.calls and self._deployed is not None:
                self._call(self._plan.event)
            while True:
                what, value = self._queue.get()
                if what == "failed":
                    raise value
                if what == "line":
                    self._call(value.strip() or self._plan.event)
                else:
                    self._changed(self._gathered(value))
        finally:
            self._stop.set()

    # Threads that only tell ----------------------------------------------------------------------------------------------
    def _tell(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Failure as failure:
                self._queue.put(("failed", failure))

        threading.Thread(target=run, daemon=True, name=work.__name__).start()

    def _watch(self) -> None:
        for names in watching.batches(self._plan.path, self._stop):
            self._queue.put(("changed", names))

    def _read(self) -> None:
        for line in sys.stdin:
            self._queue.put(("line", line))

    def _follow(self) -> None:
        since_ms = int(time.time() * 1000) - SINCE_MS
        group = f"/ondol/{self._plan.wish.name}" if self._plan.contract == "web" else f"/aws/lambda/{self._plan.wish.name}"
        while not self._stop.is_set():
            with contextlib.suppress(Failure):  # the node is restarted, perhaps: it is asked again
                for event in logs.follow(self._where, logs.Wanted(group=group, since_ms=since_ms)):
                    since_ms = event["timestamp"] + 1
                    click.echo(f"  | {foreign(event['message'].rstrip())}")
            self._stop.wait(logs.FOLLOW_S)

    # What the one thread does --------------------------------------------------------------------------------------------
    def _gathered(self, names: frozenset[str]) -> frozenset[str]:
        """With what changed while the last deploy went on."""
        kept = []
        while not self._queue.empty():
            what, value = self._queue.get()
            if what == "changed":
                names |= value
            else:
                kept.append((what, value))
        for each in kept:
            self._queue.put(each)
        return names

    def _changed(self, names: frozenset[str]) -> None:
        began_s = time.perf_counter()
        if not names and self._deployed is None:
            return  # it was just told why
        try:
            wrong = broken(self._plan, names, self._deployed)
            if wrong:
                raise Failure(Exit.REFUSED, wrong)
            done = self._deploy()
        except Failure as failure:
            note(f"not deployed: {failure.message}")
            note("  what was deployed before still answers." if self._deployed else "  nothing answers yet.")
            return
        if done is None:
            return
        shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        took = f"{(time.perf_counter() - began_s) * 1000:.0f} ms"
        note(f"{done.name} {done.change} in {took}" + (f" ({shown})" if shown else ""))
        if self._plan.calls:
            self._call(self._plan.event)

    def _deploy(self) -> Deployed | None:
        """None: what is deployed are these files. Raises Failure."""
        packed = package.read(self._plan.path, self._memory)
        if packed.archive == self._archive and self._deployed is not None:
            return None
        wish = replace(self._plan.wish, package=packed)
        if self._plan.contract == "web":
            done = deploy_web(self._where, wish)
        else:
            done = recode_aws(self._where, self._api, wish, self._deployed) or deploy_aws(self._where, wish)
        self._deployed, self._archive = done, packed.archive
        return done

    def _call(self, event: str | None) -> None:
        """Call it and show what it answers; its failure is shown like any answer."""
        name, web = self._plan.wish.name, self._plan.contract == "web"
        try:
            if event is None and (usual := self._plan.path / "event.json").is_file():
                event = f"@{usual}"
            raw = calls.payload_of(event)
            if web:
                _, body = calls.request(self._where, name, raw if event is not None else None, None)
                click.echo(foreign(body.decode(errors="replace")))
                return
            answer = calls.call(
                self._where, name, calls.checked(raw, asynchronous=False), qualifier=None, asynchronous=False, tail=False,
                api=self._api,
            )  # fmt: skip
            note(f"{name} {'failed' if answer['error'] else 'answered'} in {answer['duration_ms']:.1f} ms")
            click.echo(foreign(answer["payload"].decode(errors="replace")))
        except click.UsageError as error:
            note(f"not called: {error.format_message().removeprefix('--data: ')}")
        except Failure as failure:
            note(f"not called: {failure.message}")


def broken(plan: Plan, names: frozenset[str], deployed: Deployed | None) -> str:
    """The syntax error of a Python file that changed, or "": a node would load the file only when it is called.

    Told only where the function's Python is not newer than the one that reads the file here.
    """
    runtime = plan.wish.runtime or (deployed.runtime if deployed else "")
    version = runtime.removeprefix("python").split(".")
    if runtime and (not runtime.startswith("python") or not _reads(version)):
        return ""
    base = plan.path if plan.path.is_dir() else plan.path.parent
    for name in sorted(names):
        file = base / name
        if not name.endswith(".py") or not file.is_file():
            continue
        try:
            compile(file.read_bytes(), name, "exec", dont_inherit=True)
        except SyntaxError as error:
            line = (error.text or "").strip()
            return f"{name}, line {error.lineno}: {error.msg}" + (f": {line}" if line else "")
        except (OSError, ValueError, RecursionError):
            continue
    return ""


def _reads(version: list[str]) -> bool:
    return len(version) == 2 and version[1].isdecimal() and (int(version[0]), int(version[1])) <= sys.version_info[:2]
