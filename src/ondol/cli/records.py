"""`ondol records`: what is kept of invocations: how each ended and where its time went. Payloads are no part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.functions import UNNUMBERED, table, when
from ondol.cli.logs import moment_ms
from ondol.cli.shape import Example, Examples, Exit, as_json, find_node, note, one_line, print_json

COLUMNS: Final = ("STARTED", "FUNCTION", "VERSION", "STATUS", "QUEUE", "START", "HANDLER", "MEMORY", "ID")
STATUSES: Final = ("ok", "failed", "timeout", "crashed", "out_of_memory", "too_large")
PAGE_MAX: Final = 1000


@click.group(
    "records",
    cls=Examples,
    invoke_without_command=True,
    examples=("ondol records ls --failed --since 1h", "ondol records show ID"),
)
@click.pass_context
def records(ctx: click.Context) -> None:
    """Invocations that are over: see how each ended, and where its time went."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(Exit.USAGE)


@records.command(
    "ls", cls=Example, examples=("ondol records ls", "ondol records ls --function hello --failed --since 2h --json")
)
@click.option("--function", metavar="NAME", help="Those of one function.")
@click.option("--status", type=click.Choice(STATUSES), help="Those that ended in one way.")
@click.option("--failed", is_flag=True, help="Those that ended in any way but ok.")
@click.option(
    "--since",
    "since_ms",
    metavar="AGE|TIME",
    callback=moment_ms,
    help="How far back: 30s, 15m, 2h, 7d, or a time as ISO 8601 writes it.  [default: everything]",
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="COUNT", help="At most so many.")
@find_node
@as_json
def ls(*, status: str | None, failed: bool, limit: int, node: str | None, json_: bool, **query: Any) -> None:
    """List invocations, newest first."""
    if status and failed:
        raise click.UsageError("say either --status or --failed")
    query |= {"status": status, "failed": "true" if failed else None}
    found = list(islice(_all(client.Native(nodes.find(node)), limit, **query), limit))
    if json_:
        print_json(found)
    elif found:
        for line in table([COLUMNS, *(_row(record) for record in found)]):
            click.echo(line)
    else:
        note("no invocations are on record.")


@records.command("show", cls=Example, examples=("ondol records show 11111111-2222-3333-4444-555555555555",))
@click.argument("identity", metavar="ID")
@find_node
@as_json
def show(identity: str, node: str | None, json_: bool) -> None:
    """Show everything that is kept of the call ID: of each attempt, newest first."""
    found = client.Native(nodes.find(node)).record(identity)
    if json_:
        print_json(found)
        return
    for number, record in enumerate(found):
        if number:
            click.echo()
        for line in table([(_title(key), _shown(key, value)) for key, value in record.items()]):
            click.echo(line)


def _all(native: client.Native, limit: int, **query: Any) -> Iterator[dict[str, Any]]:
    """Page by page."""
    after = None
    while True:
        page = native.records(limit=min(limit, PAGE_MAX), after=after, **query)
        yield from page.get("records", [])
        after = page.get("next")
        if after is None:
            return


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    named = str(record.get("function", ""))
    if record.get("qualifier"):
        named += f":{record['qualifier']}"
    return (
        _shown("started_ms", record.get("started_ms")),
        named,
        _shown("version", record.get("version")),
        str(record.get("status", "")),
        *(_shown(key, record.get(key)) for key in ("queue_ms", "start_ms", "handler_ms")),
        f"{record.get('memory_peak_mib', 0):,} of {record.get('memory_mib', 0):,} MiB",
        str(record.get("request_id", "")),
    )


#: What it means that there is nothing.
_NOTHING: Final = {"version": "latest", "queue_ms": "not measured", "start_ms": "warm"}


def _title(key: str) -> str:
    return key.removesuffix("_ms").removesuffix("_mib").replace("_", " ")


def _shown(key: str, value: Any) -> str:
    if value in (None, ""):
        return _NOTHING.get(key, "none")
    if (key, value) == ("version", UNNUMBERED):
        return "published"
    if key == "started_ms":
        return f"{when(value // 1000)}.{value % 1000:03}"
    if key.endswith("_ms"):
        return f"{value:,.1f} ms"
    return f"{value:,} MiB" if key.endswith("_mib") else one_line(str(value))
