"""`ondol ls`, `ondol show` and `ondol rm`: what is deployed, whichever way it was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.shape import Example, as_json, find_node, note, print_json

COLUMNS: Final = ("NAME", "CONTRACT", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "UPDATED", "STATE")
#: In the order `show` prints them; anything else the node says follows.
FIRST: Final = ("name", "state", "contract", "runtime", "interpreter", "handler", "memory_mib", "timeout_s", "code_bytes")
#: What the native API writes for the version that has no number.
UNNUMBERED: Final = -1


@click.command("ls", cls=Example, examples=("ondol ls", "ondol ls --json"))
@find_node
@as_json
def ls(node: str | None, json_: bool) -> None:
    """List the functions."""
    found = client.Native(nodes.find(node)).functions()
    if json_:
        print_json(found)
    elif found:
        for line in table([COLUMNS, *(_row(function) for function in found)]):
            click.echo(line)
    else:
        note("no functions yet: ondol deploy PATH makes one.")


@click.command("show", cls=Example, examples=("ondol show hello", "ondol show hello --json"))
@click.argument("name")
@find_node
@as_json
def show(name: str, node: str | None, json_: bool) -> None:
    """Show everything about the function NAME."""
    found = client.Native(nodes.find(node)).function(name)
    if json_:
        print_json(found)
        return
    settings = found.pop("settings", {})
    keys = [key for key in FIRST if key in found] + [key for key in found if key not in FIRST]
    rows = [(_title(key), _shown(key, found[key])) for key in keys]
    rows += [(f"{api}: {key}", _shown("", value)) for api, kept in settings.items() for key, value in kept.items()]
    for line in table(rows):
        click.echo(line)


@click.command("rm", cls=Example, examples=("ondol rm hello", "ondol rm hello greet site"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@find_node
def rm(names: Sequence[str], node: str | None) -> None:
    """Remove functions with all their versions and aliases. Their logs stay."""
    native = client.Native(nodes.find(node))
    for name in names:
        native.remove(name)
        note(f"{name} removed")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(function: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(function.get("name", "")),
        str(function.get("contract", "")),
        str(function.get("runtime", "")),
        str(function.get("handler", "")),
        f"{function.get('memory_mib', '?')} MiB",
        f"{function.get('timeout_s', '?')} s",
        size(function.get("code_bytes", 0)),
        when(function.get("updated_s")),
        str(function.get("state", "")),
    )


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def when(seconds: float | None) -> str:
    """A moment in this machine's time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _title(key: str) -> str:
    return key.removesuffix("_mib").removesuffix("_bytes").removesuffix("_s").replace("_", " ")


def _shown(key: str, value: Any) -> str:
    text = "none" if value in (None, "") else str(value)
    if isinstance(value, Mapping):
        text = ", ".join(f"{name}={_inner(content)}" for name, content in value.items()) or "none"
    elif key == "versions":
        text = ", ".join("published" if number == UNNUMBERED else str(number) for number in value) or "none"
    elif isinstance(value, (list, tuple)):
        text = ", ".join(_inner(part) for part in value) or "none"
    elif key in ("created_s", "updated_s"):
        text = when(value)
    elif key.endswith("_bytes") and isinstance(value, int):
        text = f"{value:,} bytes"
    elif key.endswith(("_mib", "_s")):
        text += " MiB" if key.endswith("_mib") else " s"
    return text


def _inner(value: Any) -> str:
    """A part of a value: what has parts of its own stands in parentheses."""
    return f"({_shown('', value)})" if isinstance(value, Mapping) else _shown("", value)
