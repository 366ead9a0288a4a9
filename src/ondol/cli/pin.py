"""`ondol pin`: environments that are up before they are called."""

from __future__ import annotations

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.functions import table
from ondol.cli.shape import Example, as_json, find_node, note, print_json

LATEST = "$latest"


@click.command(
    "pin", cls=Example, examples=("ondol pin hello 2", "ondol pin hello:live 5", "ondol pin hello 0", "ondol pin hello")
)
@click.argument("name", metavar="NAME[:QUALIFIER]")
@click.argument("count", type=click.IntRange(0), required=False)
@find_node
@as_json
def pin(name: str, count: int | None, node: str | None, json_: bool) -> None:
    """Keep COUNT environments of a function up and loaded, called or not.

    0 keeps as many as calls need, and without COUNT they are shown. QUALIFIER is a version or an alias; without one, it is for
    calls that name neither.
    """
    function, _, qualifier = name.partition(":")
    native = client.Native(nodes.find(node))
    if count is None:
        found = native.pins(function)
        found = [each for each in found if not qualifier or each["qualifier"] == qualifier]
        if json_:
            print_json(found)
        elif found:
            rows = [(each["qualifier"], str(each["environments"]), str(each["up"]), each["why"]) for each in found]
            for line in table([("QUALIFIER", "PINNED", "UP", "WHY NOT MORE"), *rows]):
                click.echo(line)
        else:
            note(f"nothing of {name} is pinned: ondol pin {name} 1 keeps one environment up.")
    elif count:
        made = native.put_pin(function, qualifier or LATEST, count)
        print_json(made) if json_ else note(f"{count} of {name} will be kept up")
    else:
        native.remove_pin(function, qualifier or LATEST)
        note(f"{name}: as many as calls need")
