"""`ondol stats`: what a node does at this moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from ondol.cli import client
from ondol.cli import node as nodes
from ondol.cli.functions import size, table, when
from ondol.cli.shape import Example, as_json, find_node, print_json


@click.command("stats", cls=Example, examples=("ondol stats", "ondol stats --json"))
@find_node
@as_json
def stats(node: str | None, json_: bool) -> None:
    """Show what the node does now: environments, waiting calls, the queue, its processes."""
    found = client.Native(nodes.find(node)).stats()
    if json_:
        print_json(found)
        return
    for line in table(list(_rows(found))):
        click.echo(line)


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pool, queue = found["pool"], found["queue"]
    yield "node", f"Ondol {found['version']}, up since {when(found['started_s'])}"
    yield "functions", f"{found['functions']:,}"
    if pool:
        states = ("busy", "idle", "starting", "stopping")
        yield "environments", ", ".join(f"{pool[state]:,} {state}" for state in states) + f"; {pool['frozen']:,} frozen"
        yield "waiting calls", f"{pool['waiting']:,}"
        yield "memory", f"{pool['memory_mib']:,} of {pool['memory_mib_max']:,} MiB promised"
        yield "starts", f"{pool['cold_starts']:,} cold, {pool['failed_starts']:,} failed"
    else:
        yield "environments", "unknown: the front does not answer"
    yield "queue", f"{queue['waiting']:,} waiting ({size(queue['waiting_bytes'])}), {queue['dead']:,} dead"
    for process in found["processes"]:
        used = f"{size(process['rss_bytes'])}, {process['cpu_s']:.1f} s of processor time, {process['threads']} threads"
        yield process["role"], f"process {process['pid']}: {used}"
