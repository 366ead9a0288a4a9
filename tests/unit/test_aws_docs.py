"""docs/reference/aws.md cannot say other things than the code does."""

import re
from pathlib import Path

from ondol.dialects.aws import errors, metric_math, metric_names
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.dialect import SERVICES
from ondol.dialects.aws.iam import Iam
from ondol.dialects.aws.logs import Logs
from ondol.dialects.aws.monitoring import Monitoring
from ondol.dialects.aws.shapes import model
from ondol.dialects.aws.sts import Sts

TEXT = (Path(__file__).parents[2] / "docs/reference/aws.md").read_text()
INVOKING = {"Invoke", "InvokeAsync", "InvokeWithResponseStream"}


def section(service):
    return TEXT.split(f"\n## {service}\n")[1].split("\n## ")[0]


def listed(service):
    named = {
        name
        for line in section(service).splitlines()
        if "·" in line or re.fullmatch(r"[A-Z]\w+", line)
        for name in re.findall(r"[A-Z]\w+", line)
    }
    assert named <= model(service).operations.keys()
    return named


def test_the_operations_that_are_listed_are_the_ones_that_are_built():
    assert listed("lambda") - INVOKING == control_plane(None, spool=Path(), code_url=None, grants=None).keys()
    assert listed("logs") == Logs(None).operations.keys()
    assert listed("monitoring") == Monitoring(None, None).operations.keys()
    assert listed("iam") == Iam(None, None).operations().keys()
    built = Sts(None, None, None, None).operations.keys()
    assert {name for name in built if name in section("sts")} == built
    assert all(f"\n## {service}\n" in TEXT for service in SERVICES)


def test_every_metric_of_functions_is_named():
    for name in metric_names.NAMES.values():
        assert re.search(rf"\b{name}\b", section("monitoring")), name


def test_every_function_of_metric_math_is_named():
    for name in (*metric_math._FUNCTIONS, "METRICS"):
        assert f"`{name}" in section("monitoring"), name


def test_every_code_that_the_platforms_errors_get_is_in_the_table():
    rows = dict(re.findall(r"\| (\w+) \| (\d+) \|", TEXT))
    for code, status in errors.STATUSES.items():
        assert rows[code] == str(status)
