"""The `ondol` command. One module per group of commands; this one only lists them."""

from __future__ import annotations

import click

from ondol import __version__
from ondol.cli.deploy import deploy
from ondol.cli.dev import dev
from ondol.cli.doctor import doctor
from ondol.cli.events import events
from ondol.cli.functions import ls, rm, show
from ondol.cli.invoke import invoke
from ondol.cli.key import key
from ondol.cli.logs import logs
from ondol.cli.new import new
from ondol.cli.pin import pin
from ondol.cli.records import records
from ondol.cli.shape import EXIT_MEANING, Exit, Root
from ondol.cli.stats import stats
from ondol.cli.tour import tour
from ondol.cli.up import env, up

HELP = """Run functions on your own machines: deploy with any AWS client or with this command, always warm, nothing else needed.

\b
First steps:
  ondol up                        run a node (leave it running)
  ondol deploy examples/hello     in another terminal
  ondol invoke hello
"""
EPILOG = "\n".join(["\b", "Leaves with:", *(f"  {int(code):<4}{meaning}" for code, meaning in EXIT_MEANING.items())])


@click.group(
    "ondol",
    cls=Root,
    help=HELP,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ondol")
@click.pass_context
def ondol(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(Exit.USAGE)


for command in (up, env, new, deploy, dev, invoke, logs, ls, show, rm, pin, events, records, key, stats, doctor, tour):
    ondol.add_command(command)


def main() -> None:
    """The console script."""
    ondol.main(prog_name="ondol")


if __name__ == "__main__":
    main()
