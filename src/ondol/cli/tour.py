"""`ondol tour`: a first look, which `make run` gives: a node, the hello function called cold and warm, how to repeat that."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Final

import click

from ondol import config
from ondol.cli import child, client, package
from ondol.cli import node as nodes
from ondol.cli.deployment import Deployed, Wish, deploy_aws
from ondol.cli.invoke import call
from ondol.cli.node import Node
from ondol.cli.shape import Example, Exit, Failure, settings_of, with_settings
from ondol.cli.up import env_command

EVENT: Final = {"name": "Ada"}


@click.command(
    "tour",
    cls=Example,
    short_help="Look around: a node, an example, a cold and a warm call.",
    examples=("ondol tour", "ondol tour --listen 127.0.0.1:8000 --data /tmp/tour", "ondol tour examples/hello"),
)
@click.argument("path", type=click.Path(path_type=Path), default=Path("examples/hello"))
@with_settings()
def tour(path: Path, config_file: str | None, **flags: Any) -> None:
    """Run a node, deploy the example in PATH, call it cold and warm, and show how to repeat that; then serve until Ctrl-C."""
    settings = settings_of(flags, config_file)
    packed = package.read(path)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with child.node(settings, child.arguments(flags, config_file)) as (process, endpoint):
        click.echo(f"Ondol listens on {endpoint}, with its data in {settings.data}\n")
        try:
            _show(nodes.of_directory(settings.data, settings), packed, path, settings)
        except Failure as failure:
            # The node is fine and may be looked at.
            click.echo(f"ondol: the tour ends here: {failure.message}", err=True)
        click.echo("\nServing until Ctrl-C.")
        sys.stdout.flush()
        code = process.wait()
    raise Failure(Exit.UNREACHABLE, f"the node ended by itself, with status {code}.")


def _show(where: Node, packed: package.Package, path: Path, settings: config.Settings) -> None:
    done = deploy_aws(where, Wish(name="hello" if path.name == "hello" else packed.name, package=packed))
    _print_deployed(done, path)
    api = client.aws(where, "lambda")
    # Opens the connection, so that the first call measures the call.
    client.ask(where, api.get_function_configuration, FunctionName=done.name)
    payload = json.dumps(EVENT).encode()
    answers = {}
    for kind in ("cold", "warm"):
        answer = call(where, done.name, payload, qualifier=None, asynchronous=False, tail=True, api=api)
        answers[kind] = answer
        click.echo(f"{kind} call in {answer['duration_ms']:.1f} ms")
        click.echo(f"  {answer['payload'].decode(errors='replace')}")
    click.echo("what it wrote")
    for answer in answers.values():
        for line in answer["log"].splitlines():
            click.echo(f"  {line.rstrip()}")
    click.echo("\nThe same by hand, in another terminal:")
    for line in commands(done.name, path, settings.data):
        click.echo(f"  {line}" if line else "")


def _print_deployed(done: Deployed, path: Path) -> None:
    what = {"created": "deployed", "updated": "updated", "unchanged": "found, unchanged:"}[done.change]
    click.echo(f"{what} {done.name} ({path}): {done.runtime}, {done.handler}, {done.memory_mib} MiB, {done.timeout_s} s")
    if done.assumed:
        click.echo(f"  assumed: {', '.join(done.assumed)}")


def commands(name: str, path: Path, data: Path) -> list[str]:
    """How to call a function with each client, ready to be pasted."""
    ondol = program("ondol")
    python = shlex.quote(_near(sys.executable))
    environment = env_command(data).replace("ondol", ondol, 1)
    event = path / "event.json"
    payload = f" --payload fileb://{shlex.quote(str(event))}" if event.is_file() else ""
    script = (
        f'import boto3; print(boto3.client("lambda").invoke(FunctionName="{name}", '
        f'Payload=b"""{json.dumps(EVENT)}""")["Payload"].read().decode())'
    )
    return [
        f'eval "$({environment})"',
        f"{ondol} invoke {name} --data {shlex.quote(json.dumps(EVENT))} --tail",
        *_aws(f"lambda invoke --function-name {name}{payload} /dev/stdout"),
        f"{python} -c {shlex.quote(script)}",
        f"{ondol} logs {name}",
    ]


def _aws(arguments: str) -> list[str]:
    """A call with AWS's command line, and how to get that where it is missing. Debian 12's own knows no AWS_ENDPOINT_URL."""
    if shutil.which("aws") or _beside("aws").exists():
        return [f"{program('aws')} {arguments}"]
    python, aws = shlex.quote(_near(sys.executable)), shlex.quote(_near(str(_beside("aws"))))
    return [f"{python} -m pip install --quiet awscli  # there is no aws here yet", f"{aws} {arguments}"]


def _beside(name: str) -> Path:
    """Where a program is that was installed with this interpreter."""
    return Path(sys.executable).parent / name


def program(name: str) -> str:
    """What to type for a program: its name when the shell finds it, else where it is next to this interpreter."""
    if shutil.which(name):
        return name
    return shlex.quote(_near(str(_beside(name)))) if _beside(name).exists() else name


def _near(path: str) -> str:
    """As short as it can be said from here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
