"""Summaries: what they know exactly, what within a hundredth, and what they do not know."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.model.summaries import BINS_MAX, ERROR_MAX, Summary, merged, of_values

VALUES = st.lists(st.floats(min_value=0, max_value=1e12, allow_nan=False, allow_subnormal=False), min_size=1, max_size=60)


def of(*values):
    return of_values([(value, 1) for value in values])


def true_percentile(values, percent):
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100 - 1e-9) - 1)]


@given(values=VALUES, percent=st.sampled_from([0.1, 1, 25, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_within_a_hundredth_of_the_true_one(values, percent):
    found, true = of(*values).percentile(percent), true_percentile(values, percent)
    assert abs(found - true) <= ERROR_MAX * true * 1.0001


@given(parts=st.lists(VALUES, min_size=1, max_size=5))
def test_merging_is_as_if_all_values_had_come_together(parts):
    together = of(*(value for part in parts for value in part))
    one = of(*parts[0])
    for part in parts[1:]:
        one = merged(one, of(*part))
    assert (one.count, one.low, one.high) == (together.count, together.low, together.high)
    assert one.sum == pytest.approx(together.sum)
    assert dict(one.sketch) == pytest.approx(dict(together.sketch))


def test_equal_values_need_no_bins_and_are_known_exactly():
    summary = merged(of(7.3, 7.3), of(7.3))
    assert (summary.bins, summary.percentile(50), summary.percentile(1)) == ({}, 7.3, 7.3)


def test_where_only_four_numbers_are_known_there_is_no_percentile():
    blind = Summary(10, 50, 1, 9)
    assert blind.percentile(50) is None
    assert merged(blind, of(1, 2, 3)).percentile(50) is None
    assert Summary(10, 50, 5, 5).percentile(50) == 5


def test_negative_values_have_no_percentiles_and_all_else():
    summary = of(-3, 5)
    assert summary.percentile(50) is None
    assert (summary.low, summary.high, summary.average) == (-3, 5, 1)


def test_a_summary_of_nothing_is_none():
    with pytest.raises(ValueError, match="at least one"):
        of_values([])


def test_bins_are_bounded_and_the_high_ones_keep_their_precision():
    values = [1.02**n for n in range(-3000, 3000)]
    summary = of(*values)
    assert len(summary.bins) <= BINS_MAX
    assert summary.percentiles
    assert abs(summary.percentile(99) - true_percentile(values, 99)) <= ERROR_MAX * true_percentile(values, 99) * 1.0001


def test_values_that_come_with_counts_weigh_so():
    assert of_values([(1, 90), (100, 10)]).percentile(90) == pytest.approx(1, rel=0.01)
    assert of_values([(1, 90), (100, 10)]).percentile(91) == 100
