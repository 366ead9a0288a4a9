"""`ondol deploy`: the command; what it does stands in `deployment`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ondol.cli import node as nodes
from ondol.cli import package
from ondol.cli.deployment import Deployed, Wish, deploy_aws, deploy_web
from ondol.cli.live import Live, Plan
from ondol.cli.node import Node
from ondol.cli.shape import Example, as_json, find_node, note, print_json
from ondol.model import limits
from ondol.model.isolation import RANKS

Command = TypeVar("Command", bound=Callable[..., Any])

#: What a function's variables may take together.
TEXT_BYTES_MAX: Final = limits.ENVIRONMENT_BYTES_MAX


def _variables(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", ctx, parameter)
        found[name] = content
    if sum(len(os.fsencode(k)) + len(os.fsencode(v)) for k, v in found.items()) > TEXT_BYTES_MAX:
        raise click.BadParameter(f"all variables together may take {TEXT_BYTES_MAX} bytes", ctx, parameter)
    return found


def report(done: Deployed) -> None:
    """Tell a person."""
    if done.assumed:
        note(f"assumed: {', '.join(done.assumed)}")
    limits_text = f"{done.memory_mib} MiB, {done.timeout_s} s"
    note(f"{done.name} {done.change}: {done.runtime}, {done.handler}, {limits_text}, {done.code_bytes:,} bytes")


_OPTIONS: Final[tuple[Callable[[Command], Command], ...]] = (
    click.argument("path", type=click.Path(path_type=Path)),
    click.option("--name", metavar="NAME", help="The function's name.  [default: the folder's or file's]"),
    click.option(
        "--handler", metavar="HANDLER", help="MODULE.FUNCTION, or MODULE:NAME of a web application.  [default: looked for]"
    ),
    click.option("--runtime", metavar="RUNTIME", help="What runs it, such as python3.12.  [default: the node's own Python]"),
    click.option(
        "--memory",
        "memory_mib",
        type=click.IntRange(limits.MEMORY_MIB_MIN, limits.MEMORY_MIB_MAX),
        metavar="MIB",
        help="Memory in MiB.  [default: 128]",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        type=click.IntRange(limits.TIMEOUT_S_MIN, limits.TIMEOUT_S_MAX),
        metavar="SECONDS",
        help="The longest one call may take.  [default: 3; web: 30]",
    ),
    click.option(
        "--env",
        "variables",
        multiple=True,
        callback=_variables,
        metavar="NAME=VALUE",
        help="A variable for the function; may be repeated. Given once or more, it replaces all.",
    ),
    click.option(
        "--network",
        type=click.Choice(["default", "none", "egress", "host"]),
        help="What it may reach besides its node; default: what the node gives.",
    ),
    click.option(
        "--contract",
        type=click.Choice(["aws", "web"]),
        default="aws",
        show_default=True,
        help="How the code is called: as an AWS Lambda handler, or as a web server.",
    ),
    click.option(
        "--isolation",
        type=click.Choice(["node", *RANKS]),
        help="What stands between it and others: the node's level, or one that is not less.  [default: the node's]",
    ),
    click.option("--command", "command", metavar="COMMAND", help="With --contract web: the command that listens on $PORT."),
)


def deploy_options(command: Command) -> Command:
    """What is deployed and how: PATH and the options that `plan_of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def plan_of(path: Path, options: dict[str, Any], memory: package.Memory) -> Plan:
    """What the options ask for, with the package made of PATH. Raises UsageError, Failure."""
    contract = options.pop("contract")
    if options["command"] and contract != "web":
        raise click.UsageError("--command is for --contract web")
    if options["command"] and options["handler"]:
        raise click.UsageError("--command and --handler exclude each other")
    packed = package.read(path, memory)
    wish = Wish(package=packed, **{**options, "name": options["name"] or packed.name})
    return Plan(path=path, wish=wish, contract=contract)


def deploy_plan(where: Node, plan: Plan) -> Deployed:
    """Deploy it for the first time. Raises Failure."""
    return deploy_web(where, plan.wish) if plan.contract == "web" else deploy_aws(where, plan.wish)


@click.command(
    "deploy",
    cls=Example,
    short_help="Create a function, or update it.",
    examples=(
        "ondol deploy examples/hello",
        "ondol deploy app.py --name greet --handler app.greet --memory 256 --timeout 10 --env MODE=fast",
        "ondol deploy app --watch",
        "ondol deploy build.zip --runtime python3.12 --json",
        "ondol deploy examples/web-wsgi --contract web",
        "ondol deploy stranger.zip --isolation gvisor",
        "ondol deploy site --contract web --command 'python3 -m http.server $PORT'",
    ),
)
@deploy_options
@click.option("--watch", is_flag=True, help="Go on: deploy again whenever a file changes, until Ctrl-C.")
@find_node
@as_json
def deploy(path: Path, node: str | None, **options: Any) -> None:
    """Deploy PATH (a folder, a file or a zip file): create the function, or update it, and wait until it is ready.

    What is not said is guessed for a new function, printed, and kept for one that is there.
    """
    as_json_, watch = options.pop("json_"), options.pop("watch")
    if watch and as_json_:
        raise click.UsageError("--watch and --json exclude each other")
    memory = package.Memory()
    plan = plan_of(path, options, memory)
    where = nodes.find(node)
    done = deploy_plan(where, plan)
    if as_json_:
        print_json(done.as_dict())
        return
    report(done)
    note(f"call it: {how_to_call(where, done)}")
    if watch:
        live = Live(where, plan, memory)
        live.begun(done)
        note("deploying again whenever a file changes, until Ctrl-C")
        live.run(listen=False, show_logs=False)


def how_to_call(where: Node, done: Deployed) -> str:
    """A command for a person."""
    if done.contract == "web":
        return f'curl -H "X-Ondol-Key: $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" {where.endpoint}/fn/{done.name}/'
    return f"ondol invoke {done.name}"
