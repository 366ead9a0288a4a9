"""The command line's manners: how a command fails, what its help looks like, and how settings become options.

Every failure is one sentence on standard error and an exit code of `Exit`; nobody ever sees a traceback who did not ask for it.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from ondol import config

Command = TypeVar("Command", bound=Callable[..., Any])


class Exit(IntEnum):
    """What `ondol` leaves with. `docs/reference/cli.md` shows this table."""

    OK = 0  #: done
    FUNCTION_FAILED = 1  #: the function was called and failed
    USAGE = 2  #: the command, an option or a setting is wrong; nothing was done
    UNREACHABLE = 3  #: no node answers
    REFUSED = 4  #: the node, or this machine, said no: not found, not allowed, not valid
    BUG = 70  #: Ondol itself is at fault
    INTERRUPTED = 130  #: Ctrl-C


EXIT_MEANING = {
    Exit.OK: "done",
    Exit.FUNCTION_FAILED: "the function was called and failed",
    Exit.USAGE: "the command, an option or a setting is wrong; nothing was done",
    Exit.UNREACHABLE: "no node answers",
    Exit.REFUSED: "the node, or this machine, said no: not found, not allowed, not valid, not possible here",
    Exit.BUG: "Ondol itself is at fault",
    Exit.INTERRUPTED: "ended by Ctrl-C",
}


class Failure(click.ClickException):
    """A sentence for the user and the code to leave with."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click has one code per class, we have one per failure
        return int(self.code)


class Example(click.Command):
    """A command whose help ends with examples, shown as typed."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(self.examples, formatter)


def _write_examples(examples: tuple[str, ...], formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(" " * formatter.current_indent + example + "\n")


class Examples(click.Group):
    """A group of commands whose help ends with examples, as `Example`'s does."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _write_examples(self.examples, formatter)


class Root(click.Group):
    """The `ondol` command: lists its commands in the order of their use and renders every failure the same way."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.commands, n=1)
            mend = f"did you mean '{near[0]}'?" if near else "see ondol --help."
            raise Failure(Exit.USAGE, f"no such command '{name}': {mend}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader left (`ondol ls | head`). Python would complain once more while it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(Exit.OK)
        except (KeyboardInterrupt, click.Abort):
            sys.exit(Exit.INTERRUPTED)
        except Exception as error:
            _fail(error)
        sys.exit(code if isinstance(code, int) else Exit.OK)


def _fail(error: Exception) -> NoReturn:
    """Say what happened, in one line, and leave."""
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "ondol"
        _say(f"{error.format_message().rstrip('.')} (see {where} --help).")
        sys.exit(Exit.USAGE)
    if isinstance(error, click.ClickException):
        _say(error.format_message())
        sys.exit(error.exit_code)
    if isinstance(error, config.SettingRefused):
        _say(str(error))
        sys.exit(Exit.USAGE)
    if os.environ.get("ONDOL_LOG_LEVEL") == "debug":
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"
    _say(f"a mistake of Ondol's own, please report it: {what} (ONDOL_LOG_LEVEL=debug shows where).")
    sys.exit(Exit.BUG)


def _say(message: str) -> None:
    click.echo(f"ondol: {one_line(message)}", err=True)


def one_line(text: str) -> str:
    return " ".join(text.split())


#: What a terminal obeys: control characters but tab and newline, and escape sequences but those of colour.
_OBEYED = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


def foreign(text: str, *, err: bool = False) -> str:
    """Text that a function wrote, for a terminal: it shall be read, not obeyed. Anything but a terminal gets it as it is."""
    if not (sys.stderr if err else sys.stdout).isatty():
        return text
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def note(message: str) -> None:
    """Tell a person something that a script must not read."""
    click.echo(message, err=True)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_json(command: Command) -> Command:
    """The option --json."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON, for scripts.")(command)


def find_node(command: Command) -> Command:
    """The option --node, for commands that talk to one."""
    return click.option(
        "--node",
        metavar="DIR|URL",
        help="The node to talk to: its data directory or its address.  [default: $AWS_ENDPOINT_URL, else ./.ondol]",
    )(command)


def with_settings(*only: str) -> Callable[[Command], Command]:
    """Options for all settings, or those named; the command gets them as one mapping `flags` and `config_file`."""

    def decorate(command: Command) -> Command:
        for spec in reversed(config.SPECS):
            if not only or spec.name in only:
                command = _option(spec)(command)
        return click.option(
            "--config", "config_file", metavar="FILE", help=f"Settings file.  [default: ./{config.CONFIG_FILE}]"
        )(command)

    return decorate


def _option(spec: config.Spec) -> Callable[[Command], Command]:
    if spec.switch:
        return click.option(spec.flag, spec.name, is_flag=True, default=None, help=_plain(spec.doc))
    kind = click.Choice(spec.choices) if spec.choices else click.STRING
    return click.option(
        spec.flag,
        spec.name,
        type=kind,
        metavar="|".join(spec.choices) or spec.form,
        help=f"{_plain(spec.doc)}  [default: {spec.default_text}]",
    )


def _plain(doc: str) -> str:
    return doc.replace("`", "")


def settings_of(flags: Mapping[str, Any], config_file: str | None) -> config.Settings:
    return config.load(flags, config=Path(config_file) if config_file else None)
