"""`ondol up` and `ondol env`: run a node, and tell other programs where it is."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ondol import config
from ondol.cli import node as nodes
from ondol.cli.node import Node
from ondol.cli.shape import Example, as_json, note, print_json, settings_of, with_settings


@click.command(
    "up",
    cls=Example,
    examples=(
        "ondol up",
        "ondol up --listen 127.0.0.1:8000 --data /var/lib/ondol",
        "ondol up --open                       # no keys; this machine only",
        "ONDOL_MEMORY_MIB_MAX=4096 ondol up",
    ),
)
@with_settings()
@click.option("--ready-fd", type=int, hidden=True, help="Write the address to this descriptor when ready, and greet nobody.")
def up(config_file: str | None, ready_fd: int | None, **flags: Any) -> None:
    """Run a node until Ctrl-C.

    Every option is also read from ONDOL_<NAME> and from ondol.toml; an option wins over a variable, a variable over the file.
    """
    settings = settings_of(flags, config_file)
    # The node's code is heavy and the other commands do not need it.
    from ondol.start import run

    def ready(endpoint: str) -> None:
        if ready_fd is None:
            greet(settings, endpoint)
        else:
            with os.fdopen(ready_fd, "w") as line:
                line.write(endpoint + "\n")

    sys.exit(run(settings, ready))


def greet(settings: config.Settings, endpoint: str) -> None:
    """What a person reads when the node is ready."""
    note(f"Ondol listens on {endpoint}, with its data in {settings.data}")
    if settings.open:
        note("warning: --open: whoever can reach this address needs no key")
    elif not settings.loopback:
        note(f"warning: {settings.listen} is open to other machines; they need a key (ondol env)")
    note(f'use it:   eval "$({env_command(settings.data)})"   then any AWS client, or: ondol deploy PATH')


def env_command(data: Path) -> str:
    """How to ask for the variables of the node with its data there."""
    return "ondol env" if data == Path(".ondol").absolute() else f"ondol env --data {shlex.quote(str(data))}"


@click.command(
    "env",
    cls=Example,
    short_help="Print the variables that AWS clients read.",
    examples=('eval "$(ondol env)"', "ondol env --data /var/lib/ondol --json"),
)
@with_settings("data")
@as_json
def env(config_file: str | None, json_: bool, **flags: Any) -> None:
    """Print the variables with which AWS clients, and ondol, find the node and its key."""
    settings = settings_of(flags, config_file)
    node = nodes.of_directory(settings.data, settings)
    if not nodes.listens(node.endpoint):
        raise nodes.unreachable(node)
    if json_:
        print_json(node.variables())
        return
    for line in exports(node):
        click.echo(line)


def exports(node: Node) -> list[str]:
    """Lines for a shell to evaluate."""
    return [f"export {name}={shlex.quote(value)}" for name, value in node.variables().items()]
