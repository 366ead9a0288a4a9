"""AWS's own crate for extensions, unmodified, in a small program: built here where the toolchain is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ondol.testing.clients import built, program
from tests.e2e.test_extensions import layered, log, replaced  # noqa: F401  (fixtures)

SOURCE = Path(__file__).parent / "clients" / "extension"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_awss_crate_is_told_of_calls_and_reads_telemetry(layered, call, log, aws):  # noqa: F811
    files = {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*") if path.is_file()}
    made = built("extension", files, [program("cargo"), "build", "--quiet", "--locked"])
    reader = (made / "target/debug/reader").read_bytes()
    function = layered("def handler(event, context):\n    print('working on', event)", {"reader": reader}, MemorySize=256)
    calls = [call(function, number) for number in (1, 2)]
    assert [each.error for each in calls] == [None, None]
    replaced(aws, function)
    text = log(function, "shut down spindown")
    for number, each in enumerate(calls, 1):
        assert f"invoked {each.id} arn:aws:lambda:" in text
        assert f"read working on {number}\n" in text
        assert re.search(rf'^platform PlatformRuntimeDone .*"{each.id}", status: Success', text, re.M)
        assert re.search(rf'^platform PlatformReport .*"{each.id}", status: Success', text, re.M)
    assert re.search(r"^platform PlatformInitStart .*initialization_type: OnDemand, phase: Init", text, re.M)
    assert re.search(r'^platform PlatformTelemetrySubscription .*state: "Subscribed"', text, re.M)
