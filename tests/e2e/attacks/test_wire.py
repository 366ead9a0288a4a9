"""The two lines to the node, in the hands of a function: frames, descriptors, and lines of the log."""

from __future__ import annotations

import pytest

from ondol.testing.hostile import Failed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_what_is_written_to_the_wire_harms_only_its_writer(aws, inside):
    """A function has the wire in its hands; it can end itself with it."""
    for forged in ("os.urandom(4096)", "b'\\\\x01\\\\x12' + bytes(14)", "bytes(16) * 100000"):
        with pytest.raises(Failed):
            inside(f"os.write(WIRE, {forged})\ntime.sleep(10)")
        assert inside("out = 1") == 1
    with pytest.raises(Failed):
        inside("os.close(WIRE)\ntime.sleep(10)")
