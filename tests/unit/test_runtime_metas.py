"""What a guest says of how its answer ended, taken with tongs."""

import pytest

from ondol.runtimes import metas


@pytest.mark.parametrize(
    "meta", [{}, {"cut": True}, {"error_type": 7}, {"error_type": None, "error": "x"}, {"error_type": "Oops", "error": ["x"]}]
)
def test_what_names_no_failure_is_none(meta):
    assert metas.failure_of(meta) is None


def test_a_failure_has_a_name_and_what_was_said_of_it():
    failure = metas.failure_of({"error_type": "Oops", "error": '{"a": "\ud800"}'})
    assert (failure.kind, failure.details) == ("Oops", b'{"a": "?"}')
    assert metas.failure_of({"error_type": "O" * 9_999}).kind == "O" * metas.ERROR_TYPE_CHARS_MAX
    assert metas.failure_of({"error_type": "Oops"}).details == b""
