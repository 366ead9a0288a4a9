"""`ondol new`: a folder with a function to begin with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from ondol.cli.deployment import newest_runtime
from ondol.cli.shape import Example, Exit, Failure, note
from ondol.cli.starters import Starter, starter

THERE_ARE = "python3.N, nodejsN.x, javaN, provided.al2023 (--language shell, go, rust or java), web, command"


@click.command(
    "new",
    cls=Example,
    short_help="Begin a function: a folder with what its runtime needs.",
    examples=(
        "ondol new greet",
        "ondol new greet --runtime nodejs22.x",
        "ondol new greet --runtime provided.al2023 --language rust",
        "ondol new site --runtime web",
    ),
)
@click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))
@click.option("--runtime", metavar="RUNTIME", help=f"One of: {THERE_ARE}.  [default: the node's own Python]")
@click.option("--language", metavar="LANGUAGE", help="Of a custom runtime: shell, go, rust or java.  [default: shell]")
def new(folder: Path, runtime: str | None, language: str | None) -> None:
    """Make the folder NAME with a function that can be deployed as it is, and say how to go on."""
    runtime = runtime or newest_runtime()
    found = starter(runtime, language)
    if found is None:
        what = runtime + (f" in {language}" if language else "")
        raise Failure(Exit.USAGE, f"there is no starter for {what}: there are {THERE_ARE}.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", folder.name):
        raise Failure(Exit.USAGE, f"{folder.name!r} cannot be a function's name: letters, digits, '-' and '_', at most 64.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Failure(Exit.USAGE, f"{folder} is there already, and not empty: choose another name.")
    write(folder, found)
    note(f"made {', '.join(str(folder / name) for name in found.files)}")
    for line in steps(folder, found):
        click.echo(line)


def write(folder: Path, made: Starter) -> None:
    """The starter's files. Raises Failure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755 if name in made.programs else 0o644)
    except OSError as error:
        raise Failure(Exit.REFUSED, f"{error.filename} cannot be written: {error.strerror}.") from None


def steps(folder: Path, made: Starter) -> list[str]:
    """Commands to go on with."""
    name = ["--name", folder.name] if made.deployed else []
    deployed = ["ondol", "dev", str(folder / made.deployed), *name, *made.options]
    built = [shlex.join([f"./{folder / made.build}" if not folder.is_absolute() else str(folder / made.build)])]
    return [*(built if made.build else []), shlex.join(deployed)]
