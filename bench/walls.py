"""What the filter of system calls and Landlock add to a fork, to a system call, and to the memory of an environment."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure, Section

MODES = ("none", "filter", "landlock", "both")
PARENT = Path(__file__).with_name("walls_parent.py")
NAMES = {"none": "no walls", "filter": "the filter", "landlock": "Landlock", "both": "both walls"}


class Parent:
    """One parent, and its answers."""

    def __init__(self, mode: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PARENT), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{PARENT.name} ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, request: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def parents() -> Iterator[dict[str, Parent]]:
    started: dict[str, Parent] = {}
    try:
        for mode in MODES:
            started[mode] = Parent(mode)
        yield started
    finally:
        for parent in started.values():
            parent.close()


def walls(*, rounds: int, forks: int = 40, held: int = 100, calls: int = 20_000) -> Section:
    """All four kinds of parents in turn, in each round."""
    took: dict[str, list[float]] = {mode: [] for mode in MODES}
    memory: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    called: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with parents() as all_:
        for _ in range(rounds):
            for mode, parent in all_.items():
                took[mode].append(statistics.median(parent.ask(f"fork {forks}")))
            for mode, parent in all_.items():
                memory[mode].append(parent.ask(f"hold {held}"))
                parent.ask("drop")
            for mode, parent in all_.items():
                called[mode].append(parent.ask(f"calls {calls}"))
    return Section(
        "Walls",
        f"Processor time. Forks of a warm interpreter, the parent's part and the child's until it has its walls, {forks} a round; {held} "
        "children at once; system calls made from Python, so that the interpreter's part is in them. Without namespaces and control "
        "groups, which cost the same either way.",
        [*_forks(took), *_memory(memory), *_calls(called)],
    )


def _forks(took: dict[str, list[float]]) -> list[Figure]:
    figures = [Figure(what=f"fork, {NAMES[mode]}", unit="µs", rounds=[s * 1e6 for s in took[mode]]) for mode in MODES]
    ratio = [both / none for both, none in zip(took["both"], took["none"], strict=True)]
    return [*figures, Figure(what="fork, both walls / none", unit="×", rounds=ratio)]


def _memory(memory: dict[str, list[dict[str, float]]]) -> list[Figure]:
    return [
        Figure(what=f"memory of a child, {part}, {NAMES[mode]}", unit="KiB", rounds=[found[key] for found in memory[mode]])
        for key, part in (("written_kib", "pages it wrote to"), ("kernel_kib", "in the kernel"))
        for mode in ("none", "both")
    ]


def _calls(called: dict[str, list[dict[str, float]]]) -> list[Figure]:
    figures = []
    for kind in called["none"][0]:
        none, both = ([found[kind] for found in called[mode]] for mode in ("none", "both"))
        figures += [
            Figure(what=f"{kind}, no walls", unit="ns", rounds=[s * 1e9 for s in none]),
            Figure(what=f"{kind}, both walls / none", unit="×", rounds=[b / n for b, n in zip(both, none, strict=True)]),
        ]
    return figures
