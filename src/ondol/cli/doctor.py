"""`ondol doctor`: what this machine gives a node, what is missing, and how to get it. What is looked at stands in
`ondol.node.examining`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from ondol import config
from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.shape import Example, Exit, as_json, print_json, settings_of, with_settings
from ondol.node.examining import Finding, Interpreter, Probed, able, examine, numbered


def runtimes_here() -> list[str]:
    """Runtime ids that a node on this machine can run, oldest first."""
    return [name for name, found in sorted(_find_interpreters().items(), key=numbered) if not found.lacks]


def _listener(settings: config.Settings) -> Finding:
    try:
        running = nodes.of_directory(settings.data, settings).endpoint
    except click.ClickException:
        running = ""
    if running and nodes.listens(running, timeout_s=1.0):
        return Finding(part="host", what="node", ok=True, detail=f"runs at {running}")
    taken = settings.port != 0 and nodes.listens(settings.url, timeout_s=1.0)
    return Finding(
        part="host",
        what="port",
        ok=not taken,
        detail=f"{settings.listen} is {'taken by another program' if taken else 'free'}",
        mend="stop that program, or choose another port with --listen" if taken else "",
        needed=True,
    )


@click.command(
    "doctor",
    cls=Example,
    short_help="Say what this machine gives and what is missing.",
    examples=("ondol doctor", "ondol doctor --json", "ondol doctor --node .ondol"),
)
@with_settings("data", "listen")
@click.option("--node", metavar="DIR|URL", help="Ask a node that runs, here or elsewhere, about its machine.")
@as_json
@click.pass_obj
def doctor(tools: Any, /, config_file: str | None, node: str | None, json_: bool, **flags: Any) -> None:
    """Say what isolation this machine gives, which interpreters there are, what is missing, and how to get it.

    Leaves with 0 when a node can run here, else with 4.
    """
    settings = settings_of(flags, config_file)
    if node is not None:
        findings = [Finding(**each) for each in client.Native(nodes.find(node)).doctor()["findings"]]
    else:
        probe, interpreters = tools or (_probe, _find_interpreters)
        findings = examine(settings, probe=probe, interpreters=interpreters, listener=_listener(settings))
    if json_:
        print_json({"able": able(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        for line in [*lines(findings), "", _verdict(able(findings), running=node is not None)]:
            click.echo(line)
    sys.exit(Exit.OK if able(findings) else Exit.REFUSED)


def lines(findings: Sequence[Finding]) -> list[str]:
    """The findings for a person."""
    shown: list[str] = []
    before = ""
    for part in dict.fromkeys(finding.part for finding in findings):
        shown.append(part)
        of_part = [finding for finding in findings if finding.part == part]
        width = max(len(finding.what) for finding in of_part)
        for finding in of_part:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "absent"
            shown.append(f"  {mark:<8}{finding.what:<{width}}  {finding.detail}".rstrip())
            if finding.means and not finding.ok:
                shown.append(f"  {'':<8}so: {finding.means}")
            if finding.mend and (not finding.ok or finding.part == "disk"):
                shown.append(f"  {'':<8}to mend: {finding.mend if finding.mend != before else 'the same'}")
                before = finding.mend
    return shown


def _verdict(able_: bool, *, running: bool) -> str:
    if able_:
        return "the node has what it needs" if running else "a node can run here: ondol up"
    return (
        "a node cannot run here until what is MISSING is mended; of isolation it needs nothing with: ondol up --isolation "
        "process, which stops accidents only"
    )


def _probe() -> Sequence[Probed]:
    from ondol.keeper.probe import probe
    from ondol.launcher.probe import find
    from ondol.launcher.probe import findings as levels

    return [*probe(), *levels(find())]


def _find_interpreters() -> Mapping[str, Interpreter]:
    from ondol.runtimes.interpreters import Interpreters
    from ondol.runtimes.managed import lacking

    return {
        one.name: Interpreter(path=one.path, version=one.version, lacks=lacking(one) or "")
        for one in Interpreters.discover().everything()
    }
