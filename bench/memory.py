"""What an idle environment takes: the fall of the machine's available memory, the share of each process, and the kernel's part."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from bench import client, processes, servers
from bench.cold import NAPS, create_many
from bench.figures import Figure, Section
from ondol.testing.node import Node

COUNT = 100
SETTLE_S = 10.0
GONE_S_MAX = 20.0
MIB = 1024.0
#: An init and a worker.
PROCESSES_PER_SHELL = 2
GIB_MIB = 1024.0
#: The kernel's caches of objects that grow the most with each shell.
SLABS_SHOWN = 8
#: Of /proc/meminfo: what the kernel holds for processes and groups.
KERNEL = ("SUnreclaim", "KernelStack", "PageTables", "SecPageTables", "Percpu")
#: … and what may be page cache, or can be given back.
ROOM = ("AnonPages", "Shmem", "Cached", "Buffers", "SReclaimable")


def parse_kib(text: str) -> dict[str, int]:
    """Lines such as "MemAvailable:  24105 kB", as in /proc/meminfo and smaps_rollup."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            found[name] = int(words[0])
    return found


def machine() -> dict[str, int]:
    return parse_kib(Path("/proc/meminfo").read_text())


def pss_kib(node: Node) -> int | None:
    """Proportional share of all guests, inits and zygotes; None when we may not read it.

    The zygotes belong to it: each child takes a part of the shared pages off their share, which is no gain and no loss.
    """
    stats = processes.tree(node.process.pid)
    groups = processes.grouped(stats)
    total = 0
    for stat in stats:
        if groups[stat.pid] in ("guests", "zygotes"):
            try:
                total += parse_kib(Path(f"/proc/{stat.pid}/smaps_rollup").read_text()).get("Pss", 0)
            except PermissionError:
                return None
            except OSError:
                continue
    return total


def shares_kib(node: Node) -> dict[str, int]:
    """Proportional share by part of the node: environments ("guests": workers and inits apart), zygotes, front, desk, keeper …"""
    stats = processes.tree(node.process.pid)
    groups = processes.grouped(stats)
    found: dict[str, int] = {}
    for stat in stats:
        part = groups[stat.pid]
        if part == "guests":
            part = "inits" if stat.command.strip() == "init" else "workers"
        with contextlib.suppress(OSError):
            kib = parse_kib(Path(f"/proc/{stat.pid}/smaps_rollup").read_text())
            found[part] = found.get(part, 0) + kib.get("Pss", 0)
    return found


def slabs_kib() -> dict[str, float]:
    """What the kernel's caches of objects hold, by name; empty when we may not know."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
            name, _active, objects, size, *_ = line.split()
            found[name] = int(objects) * int(size) / 1024
    return found


def guests(node: Node) -> int:
    return sum(part == "guests" for part in processes.grouped(processes.tree(node.process.pid)).values())


def settled(node: Node) -> tuple[dict[str, int], int | None]:
    time.sleep(SETTLE_S)
    return machine(), pss_kib(node)


def one_round(node: Node, number: int) -> dict[str, float]:
    """MiB for each shell that there is more of: the environments, and what the burst has the stock keep ready for another."""
    name = f"idle-{number}"
    create_many(node, [name], NAPS)
    before, share_before = settled(node)
    parts_before, slabs_before = shares_kib(node), slabs_kib()
    processes_before = guests(node)
    bodies = [json.dumps({"nap_s": 3.0, "n": n}).encode() for n in range(COUNT)]
    answers = client.all_good(client.at_once(node.endpoint, servers.signed(node, name, bodies)))
    count = len({json.loads(answer.body)["me"] for answer in answers})
    after, share_after = settled(node)
    parts_after, slabs_after = shares_kib(node), slabs_kib()
    shells = (guests(node) - processes_before) / PROCESSES_PER_SHELL
    node.client().delete_function(FunctionName=name)
    parts = {part: (kib - parts_before.get(part, 0)) / shells / MIB for part, kib in parts_after.items()}
    slabs = {name: (kib - slabs_before.get(name, 0)) / shells for name, kib in slabs_after.items()}
    found = {
        "count": float(count),
        "shells": shells,
        "available": (before["MemAvailable"] - after["MemAvailable"]) / shells / MIB,
        "kernel": sum(after.get(part, 0) - before.get(part, 0) for part in KERNEL) / shells / MIB,
        **{f"part {part}": mib for part, mib in parts.items()},
        **{f"meminfo {part}": (after.get(part, 0) - before.get(part, 0)) / shells / MIB for part in (*KERNEL, *ROOM)},
        **{f"slab {name}": kib for name, kib in slabs.items()},
    }
    if share_before is not None and share_after is not None:
        found["pss"] = (share_after - share_before) / shells / MIB
    return found


def memory(*, rounds: int) -> Section:
    with servers.ondol_node() as node:
        every = []
        for number in range(rounds):
            stock = guests(node)
            every.append(one_round(node, number))
            _wait_until(node, stock)
    text = (
        f"{COUNT} environments of one function of 128 MiB, each called once (the handler sleeps 3 s, so that all are needed), "
        f"then left alone for {SETTLE_S:.0f} s; before that the node had as long to settle."
    )
    labels = {
        "available": ("fall of MemAvailable, for each", "all in: processes, kernel, page cache that cannot be given back"),
        "pss": (
            "PSS, for each",
            "growth of the sum over guests, inits and zygotes: pages shared with the zygote count once, for all",
        ),
        "kernel": ("kernel memory, for each", " + ".join(KERNEL) + " of /proc/meminfo"),
    }
    figures = [
        Figure(
            what=what,
            unit="MiB",
            rounds=[found[key] for found in every],
            target="<= 4" if key == "available" else "",
            note=note,
        )
        for key, (what, note) in labels.items()
        if all(key in found for found in every)
    ]
    figures.append(Figure(what="environments", unit="", rounds=[found["count"] for found in every]))
    figures.append(
        Figure(what="shells more than before, with the stock's", unit="", rounds=[found["shells"] for found in every])
    )
    if all("pss" in found for found in every):
        figures.append(
            Figure(what="PSS and kernel memory", unit="MiB", rounds=[f["pss"] + f["kernel"] for f in every], target="<= 4")
        )
    per_gib = [GIB_MIB / found["available"] for found in every]
    figures.append(Figure(what="environments per GiB, all in", unit="", rounds=per_gib, target=">= 280"))
    figures += [
        Figure(what=f"where it goes: {key}", unit="MiB", rounds=[found.get(key, 0.0) for found in every])
        for key in sorted(every[0])
        if key.startswith(("part ", "meminfo "))
    ]
    slabs = sorted((key for key in every[0] if key.startswith("slab ")), key=lambda key: -every[0][key])[:SLABS_SHOWN]
    figures += [Figure(what=key, unit="KiB", rounds=[found.get(key, 0.0) for found in every]) for key in slabs]
    return Section("Memory of an idle environment", text, figures)


def _wait_until(node: Node, stock: int) -> None:
    """Until the round's environments have ended and only the stock is left; not for ever: a leak shows in the next round."""
    deadline = time.monotonic() + GONE_S_MAX
    while guests(node) > stock and time.monotonic() < deadline:
        time.sleep(0.5)
