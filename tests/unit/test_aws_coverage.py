"""What is said of Lambda's operations is what is so."""

from pathlib import Path

import pytest

from ondol.dialects.aws import codec, coverage
from ondol.dialects.aws.actions import ACTIONS
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.dialect import refusal_of
from ondol.dialects.aws.shapes import model

SERVED = control_plane(None, spool=Path(), code_url=None, grants=None).keys()


def test_every_operation_of_the_model_is_served_or_refused_with_a_reason():
    known = {*SERVED, *coverage.INVOKING, *coverage.REFUSED}
    assert model("lambda").operations.keys() <= known, "AWS has something new: build it, or say in coverage.py why not"


def test_nothing_is_both_and_what_is_kept_is_served():
    assert not set(SERVED) & set(coverage.REFUSED)
    assert set(coverage.KEPT) <= set(SERVED)
    assert set(coverage.NOTES) <= {*SERVED, *coverage.INVOKING}
    assert set(ACTIONS["lambda"]) == set(SERVED), "the page is made of the actions"


@pytest.mark.parametrize("operation", sorted(coverage.REFUSED))
def test_a_refusal_says_why(operation):
    error = refusal_of("lambda", operation)
    assert (error.code, error.status) == ("NotImplemented", 501)
    assert coverage.REFUSED[operation] in str(error)
    assert operation in str(error)


def test_other_services_refuse_in_general():
    assert str(refusal_of("logs", "StartQuery")) == str(codec.not_built("logs", "StartQuery"))
