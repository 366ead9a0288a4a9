"""`ondol events`: asynchronous calls that wait, run, or were given up; and what can be done about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.functions import size, table, when
from ondol.cli.shape import Example, Examples, Exit, as_json, find_node, note, one_line, print_json

COLUMNS: Final = ("ID", "FUNCTION", "STATE", "ACCEPTED", "TRIES", "PAYLOAD", "WHY")
PAGE_MAX: Final = 1000
WHY_CHARS_MAX: Final = 60

_function = click.option("--function", metavar="NAME", help="Those of one function.")


@click.group(
    "events",
    cls=Examples,
    short_help="See asynchronous calls, try them again, remove them.",
    invoke_without_command=True,
    examples=("ondol events ls --state dead", "ondol events show ID", "ondol events replay ID"),
)
@click.pass_context
def events(ctx: click.Context) -> None:
    """Asynchronous calls: see which wait, run or were given up; try them again or remove them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(Exit.USAGE)


@events.command("ls", cls=Example, examples=("ondol events ls", "ondol events ls --function hello --state dead --json"))
@_function
@click.option("--state", type=click.Choice(["waiting", "running", "dead"]), help="Those in one state.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="COUNT", help="At most so many.")
@find_node
@as_json
def ls(function: str | None, state: str | None, limit: int, node: str | None, json_: bool) -> None:
    """List asynchronous calls."""
    found = list(islice(_all(client.Native(nodes.find(node)), limit, function=function, state=state), limit))
    if json_:
        print_json(found)
    elif found:
        for line in table([COLUMNS, *(_row(event) for event in found)]):
            click.echo(line)
    else:
        note("no asynchronous calls.")


@events.command("show", cls=Example, examples=("ondol events show 11111111-2222-3333-4444-555555555555",))
@click.argument("identity", metavar="ID")
@find_node
@as_json
def show(identity: str, node: str | None, json_: bool) -> None:
    """Show everything about the call ID, its payload too."""
    found = client.Native(nodes.find(node)).event(identity)
    if json_:
        print_json(found)
        return
    payload = found.pop("payload", None) if "payload" in found else found.pop("payload_base64", "")
    rows = [(key.removesuffix("_s").removesuffix("_bytes").replace("_", " "), _shown(key, found[key])) for key in found]
    for line in table(rows):
        click.echo(line)
    click.echo(payload if isinstance(payload, str) else json.dumps(payload, indent=2, ensure_ascii=False))


@events.command("replay", cls=Example, examples=("ondol events replay ID", "ondol events replay --function hello"))
@click.argument("identities", metavar="ID...", nargs=-1)
@click.option("--function", metavar="NAME", help="All dead ones of one function.")
@find_node
def replay(identities: Sequence[str], function: str | None, node: str | None) -> None:
    """Try dead calls again, as if they were accepted now; they keep their ids."""
    if bool(identities) is (function is not None):
        raise click.UsageError("name either calls or a function")
    native = client.Native(nodes.find(node))
    if function is not None:
        # All are found before the first is tried: what dies again in the meantime is not tried for ever.
        identities = [event["id"] for event in _all(native, PAGE_MAX, function=function, state="dead")]
    for identity in identities:
        native.replay_event(identity)
        note(f"{identity} waits for its turn")


@events.command("purge", cls=Example, examples=("ondol events purge --function hello", "ondol events purge --all --state dead"))
@click.argument("identities", metavar="ID...", nargs=-1)
@click.option("--function", metavar="NAME", help="All of one function.")
@click.option("--all", "everything", is_flag=True, help="All of all functions.")
@click.option("--state", type=click.Choice(["waiting", "dead"]), help="Only those in one state.")
@find_node
def purge(identities: Sequence[str], function: str | None, everything: bool, state: str | None, node: str | None) -> None:
    """Remove calls that wait or are dead, for good. What runs is left alone."""
    if sum([bool(identities), function is not None, everything]) != 1:
        raise click.UsageError("name calls, or a function with --function, or say --all")
    if identities and state:
        raise click.UsageError("--state goes with --function or --all")
    native = client.Native(nodes.find(node))
    for identity in identities:
        native.remove_event(identity)
    removed = len(identities) or native.purge_events(function=function, state=state)
    note(f"{removed} removed")


def _all(native: client.Native, limit: int, **query: Any) -> Iterator[dict[str, Any]]:
    """Page by page."""
    after = None
    while True:
        page = native.events(limit=min(limit, PAGE_MAX), after=after, **query)
        yield from page.get("events", [])
        after = page.get("next")
        if after is None:
            return


def _row(event: Mapping[str, Any]) -> tuple[str, ...]:
    named = str(event.get("function", ""))
    if event.get("qualifier"):
        named += f":{event['qualifier']}"
    why = ": ".join(str(event[key]) for key in ("reason", "error") if event.get(key))
    return (
        str(event.get("id", "")),
        named,
        str(event.get("state", "")),
        when(event.get("accepted_s")),
        str(event.get("attempts", "")),
        size(event.get("payload_bytes", 0)),
        _cut(one_line(why)),
    )


def _cut(text: str) -> str:
    return text if len(text) <= WHY_CHARS_MAX else text[: WHY_CHARS_MAX - 1] + "…"


def _shown(key: str, value: Any) -> str:
    if key.endswith("_s"):
        return when(value)
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value:,} bytes"
    return "none" if value in (None, "") else one_line(str(value))
