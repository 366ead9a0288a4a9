"""Small enough to be read: the outliers are printed, and nothing is over the hard limits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULE_LINES_USUAL, MODULE_LINES_MAX = 300, 600
FUNCTION_LINES_USUAL, FUNCTION_LINES_MAX = 40, 70


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def sizes() -> tuple[dict[str, int], dict[str, int]]:
    paths = sorted((ROOT / "src").rglob("*.py"))
    by_module = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    by_function = {name: lines for path in paths for name, lines in functions(path)}
    return by_module, by_function


def over(found: dict[str, int], limit: int) -> list[str]:
    return [f"{lines:5d} {name}" for name, lines in sorted(found.items(), key=lambda item: -item[1]) if lines > limit]


def test_modules_and_functions_stay_readable():
    by_module, by_function = sizes()
    assert len(by_module) > 20 and len(by_function) > 100, "the sources were not found"
    print("\nmodules over the usual size:", *over(by_module, MODULE_LINES_USUAL), sep="\n")
    print("functions over the usual size:", *over(by_function, FUNCTION_LINES_USUAL), sep="\n")
    too_large = over(by_module, MODULE_LINES_MAX) + over(by_function, FUNCTION_LINES_MAX)
    assert not too_large, "\n".join(too_large)
