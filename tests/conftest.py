"""What holds for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ondol import accelerator
from ondol.sandboxes import kept
from ondol.testing.patience import PATIENCE

for bound in [name for name in vars(kept) if name.endswith("_S_MAX")]:
    setattr(kept, bound, getattr(kept, bound) * PATIENCE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that start a node or sandboxes run one after the other, on one worker; all others wherever there is room.

    ONDOL_TEST_AS leaves out what is run as somebody else, of tests that are run as root and as an ordinary user.
    """
    others = {"root": "user", "user": "root"}.get(os.environ.get("ONDOL_TEST_AS", ""))
    if others:
        left_out = [item for item in items if others in item.name.partition("[")[2].rstrip("]").split("-")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("e2e") or item.get_closest_marker("sandbox"):
            item.add_marker(pytest.mark.xdist_group("node"))
        if PATIENCE != 1:
            given = item.get_closest_marker("timeout")
            seconds = given.args[0] if given else float(item.config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds * PATIENCE), append=False)


@pytest.fixture(scope="module", params=["python", "accelerator"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """The module's tests twice: in Python alone, and with the accelerator."""
    module = accelerator.built() if request.param == "accelerator" else None
    if request.param == "accelerator" and module is None:
        if os.environ.get("CI"):
            pytest.fail("the accelerator was not built")
        pytest.skip(f"the accelerator was not built: {accelerator.mend()}")
    was = accelerator.built() if accelerator.hot.built else None
    accelerator.hot.use(module)
    yield
    accelerator.hot.use(was)
