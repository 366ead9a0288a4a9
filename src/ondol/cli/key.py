"""`ondol key`: access keys of the node's account: make them, list them, remove them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.functions import table, when
from ondol.cli.shape import Example, Examples, Exit, as_json, find_node, note, print_json

COLUMNS: Final = ("ID", "NAME", "MAY", "CREATED")


@click.group(
    "key",
    cls=Examples,
    short_help="Access keys, read-only ones too: make, list, remove.",
    invoke_without_command=True,
    examples=("ondol key create --read-only --name dashboard", "ondol key ls", "ondol key rm ID"),
)
@click.pass_context
def key(ctx: click.Context) -> None:
    """Access keys: make one for each person or program, read-only ones for those that only look."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(Exit.USAGE)


@key.command("create", cls=Example, examples=("ondol key create --name ci", "ondol key create --read-only --json"))
@click.option("--name", metavar="NAME", default="", help="What you will know it by.")
@click.option("--read-only", "read_only", is_flag=True, help="It may look at all, and neither change nor call.")
@find_node
@as_json
def create(name: str, read_only: bool, node: str | None, json_: bool) -> None:
    """Make an access key. Its secret is shown now, and never again."""
    made = client.Native(nodes.find(node)).create_key(name, read_only=read_only)
    if json_:
        print_json(made)
        return
    click.echo(f"AWS_ACCESS_KEY_ID={made['id']}")
    click.echo(f"AWS_SECRET_ACCESS_KEY={made['secret']}")
    note("this secret is not shown again.")


@key.command("ls", cls=Example, examples=("ondol key ls",))
@find_node
@as_json
def ls(node: str | None, json_: bool) -> None:
    """List the access keys, without their secrets."""
    found = client.Native(nodes.find(node)).keys()
    if json_:
        print_json(found)
        return
    rows = [
        (
            str(each["id"]),
            str(each["name"]) or ("the node's own" if each["node"] else ""),
            "look" if each["read_only"] else "all",
            when(each["created_s"]),
        )
        for each in found
    ]
    for line in table([COLUMNS, *rows]):
        click.echo(line)


@key.command("rm", cls=Example, examples=("ondol key rm AKIAIOSFODNN7EXAMPLE",))
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@find_node
def rm(identities: Sequence[str], node: str | None) -> None:
    """Remove access keys: from now on they are nobody's."""
    native = client.Native(nodes.find(node))
    for identity in identities:
        native.remove_key(identity)
        note(f"{identity} removed")
