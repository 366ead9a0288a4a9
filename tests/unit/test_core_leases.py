"""The books of limits that hold across fronts: tokens are counted once, wherever they are."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ondol.core.admit import Admission
from ondol.core.leases import Ledger, Shares
from ondol.model.errors import Throttled
from ondol.testing.pool import a_target

REGION = ("000000000000", "here")


def ledger(fronts=3, **limits):
    made = Ledger(fronts)
    for key, total in limits.items():
        made.limit(key, total)
    for front in range(fronts):
        made.declare(front, {})
    return made


def test_everything_is_given_out_in_equal_parts():
    books = ledger(a=8)
    assert [books.share(front, "a") for front in range(3)] == [3, 3, 2]
    assert books.free("a") == 0
    assert [books.share(front, "a") for front in range(3)] == [0, 0, 0]


def test_nothing_is_given_out_before_it_is_known_what_everybody_holds():
    books = Ledger(2)
    books.limit("a", 10)
    books.declare(0, {})
    assert books.share(0, "a") == books.ask(0, "a", 5) == 0
    books.declare(1, {"a": 7})
    assert books.share(0, "a") == 3


def test_who_asks_gets_what_is_free_and_some_of_the_rest():
    books = ledger(a=9)
    assert books.ask(0, "a", 1) == 3
    assert books.ask(0, "a", 5) == 5
    assert books.ask(1, "a", 5) == 1
    assert books.ask(2, "a", 5) == 0


def test_what_a_front_says_counts_more_than_what_was_written_down():
    books = ledger(a=9)
    books.ask(0, "a", 9)
    books.declare(0, {"a": 4, "unheard of": 3})
    assert books.held(0, "a") == 4
    assert books.free("a") == 5


def test_who_holds_the_most_owes_the_most():
    books = ledger(a=20)
    for front, count in enumerate((10, 7, 3)):
        books.declare(front, {"a": count})
    books.limit("a", 12)
    assert books.excess("a") == 8
    assert books.owed("a") == {0: 6, 1: 2, 2: 0}
    books.limit("a", 0)
    assert books.owed("a") == {0: 10, 1: 7, 2: 3}
    books.limit("a", 30)
    assert books.owed("a") == {0: 0, 1: 0, 2: 0}


@pytest.mark.parametrize("seed", range(50))
def test_what_is_owed_is_the_excess_and_levels_the_highest(seed):
    draw = random.Random(seed)
    books = ledger(draw.randint(1, 6), a=1000)
    heights = [draw.randint(0, 30) for _ in range(books.fronts)]
    for front, height in enumerate(heights):
        books.declare(front, {"a": height})
    books.limit("a", draw.randint(0, 60))
    owed = books.owed("a")
    assert sum(owed.values()) == books.excess("a")
    left = [height - owed[front] for front, height in enumerate(heights)]
    assert all(height >= 0 for height in left)
    payers = [left[front] for front in owed if owed[front]]
    assert not payers or max(payers) - min(payers) <= 1
    assert not payers or max(left) - max(payers) <= 1


def test_a_limit_that_was_gone_and_is_back_has_another_stamp():
    books = ledger(a=5)
    before = books.stamp("a")
    books.limit("a", 6)
    assert books.stamp("a") == before
    books.ask(0, "a", 6)
    books.limit("a", None)
    assert books.stamp("a") is None
    books.limit("a", 5)
    assert books.stamp("a") not in (None, before)
    assert books.held(0, "a") == 0


def test_giving_back_more_than_was_held_is_a_bug_that_shows():
    books = ledger(a=5)
    books.ask(0, "a", 2)
    with pytest.raises(AssertionError):
        books.give_back(0, "a", 3)


def shares(**used):
    counts = Counter(used)
    made = Shares(lambda key: counts[key])
    made.grant([("a", 10)])
    return made, counts


def test_a_front_lends_what_is_asked_or_half_of_what_it_does_not_use():
    held, used = shares(a=2)
    assert held.lend("a", 1) == 4
    assert held.lend("a", 3) == 3
    assert held.lend("a", 3) == 1
    assert held.lend("a", 3) == 0
    assert held.usable["a"] == used["a"] == 2
    assert held.lend("unheard of", 3) == 0


def test_what_is_owed_is_used_no_more_and_given_back_as_calls_end():
    held, used = shares(a=8)
    assert held.owe("a", 5) == 2
    assert held.usable["a"] == 5, "three more are owed, and eight run"
    used["a"] = 6
    assert held.lend("a", 1) == 0, "what is owed is not lent"
    assert held.owe("a", 3) == 2
    used["a"] = 3
    assert held.owe("a", 1) == 1
    assert held.usable["a"] == held.held()["a"] == 5
    assert held.owe("a", 0) == 0


def test_owing_ends_when_it_is_taken_back():
    held, _ = shares(a=10)
    assert held.owe("a", 4) == 0
    assert held.usable["a"] == 6
    assert held.owe("a", 0) == 0
    assert held.usable["a"] == 10


def test_what_nobody_counts_any_more_is_forgotten():
    held, _ = shares()
    held.forget("a")
    held.forget("a")
    assert held.owe("a", 1) == 0
    assert held.usable == held.held() == {}


def test_a_front_uses_no_more_than_it_was_leased():
    leased = {REGION: 2, "id-of-mine": 1}
    admission = Admission(concurrency_max=100, leased=leased)
    shared, mine = a_target("shared").function, a_target("mine", reserved=5).function
    for function in (shared, shared, mine):
        admission.enter(function)
    for function, reason in ((shared, "account"), (mine, "function")):
        with pytest.raises(Throttled) as refused:
            admission.enter(function)
        assert refused.value.reason == reason
    assert (admission.used(REGION), admission.used("id-of-mine")) == (2, 1)
    leased[REGION] = 3
    admission.enter(shared)
