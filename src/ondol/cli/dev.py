"""`ondol dev`: a function that is kept as its files are, its log and its answers in the same terminal."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ondol import config
from ondol.cli import child, client, package
from ondol.cli import node as nodes
from ondol.cli.deploy import deploy_options, deploy_plan, how_to_call, plan_of, report
from ondol.cli.live import Live, broken
from ondol.cli.node import Node
from ondol.cli.shape import Example, Exit, Failure, find_node, note


@click.command(
    "dev",
    cls=Example,
    short_help="Work on a function: deploy at each change, see its log, call it.",
    examples=(
        "ondol dev app                          # Enter calls it, with app/event.json if there is one",
        "ondol dev app.py --invoke @event.json  # and at each change",
        "ondol dev site --contract web",
        "ondol dev app --node http://127.0.0.1:7979",
    ),
)
@deploy_options
@click.option("--invoke", "event", metavar="JSON|@FILE", help="Call it with this event after each deploy, and on Enter.")
@click.option("--logs/--no-logs", "show_logs", default=True, help="Print what it writes.  [default: --logs]")
@find_node
def dev(path: Path, event: str | None, node: str | None, *, show_logs: bool, **options: Any) -> None:
    """Deploy PATH, and again whenever a file in it changes, until Ctrl-C.

    Uses the node that runs, or runs one for as long as it lasts. Press Enter to call the function; a line of JSON is an event.
    A change that cannot be deployed is told, and what was deployed before still answers.
    """
    memory = package.Memory()
    plan = replace(plan_of(path, options, memory), event=event, calls=event is not None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _node(node) as where:
        live = Live(where, plan, memory)
        try:
            wrong = broken(plan, frozenset(f"{name}.py" for name in plan.wish.package.modules), None)
            if wrong:
                raise Failure(Exit.REFUSED, wrong)
            done = deploy_plan(where, plan)
        except Failure as failure:
            if failure.code != Exit.REFUSED:
                raise
            note(f"not deployed: {failure.message}")
        else:
            live.begun(done)
            report(done)
            note(f"call it: {how_to_call(where, done)}")
        note("Enter calls it; Ctrl-C ends." if sys.stdin is not None else "Ctrl-C ends.")
        try:
            live.run(listen=True, show_logs=show_logs)
        except KeyboardInterrupt:
            return


@contextlib.contextmanager
def _node(given: str | None) -> Iterator[Node]:
    """The node that was named, the one that runs, or one of our own."""
    with contextlib.suppress(Failure):
        found = nodes.find(given)
        if nodes.listens(found.endpoint):
            client.preload("lambda")
            yield found
            return
    if given:
        raise nodes.unreachable(nodes.find(given))
    settings = config.load()
    with child.node(settings, []) as (_, endpoint):
        note(f"Ondol listens on {endpoint} while this lasts, with its data in {settings.data}")
        yield nodes.of_directory(settings.data, settings)
