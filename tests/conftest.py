"""What holds for all tests."""

from __future__ import annotations

import pytest

from ondol.sandboxes import kept
from ondol.testing.patience import PATIENCE

for bound in [name for name in vars(kept) if name.endswith("_S_MAX")]:
    setattr(kept, bound, getattr(kept, bound) * PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start a node or sandboxes run one after the other, on one worker; all others wherever there is room."""
    for item in items:
        if item.get_closest_marker("e2e") or item.get_closest_marker("sandbox"):
            item.add_marker(pytest.mark.xdist_group("node"))
        if PATIENCE != 1:
            given = item.get_closest_marker("timeout")
            seconds = given.args[0] if given else float(item.config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds * PATIENCE), append=False)
