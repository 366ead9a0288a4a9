"""Admission: counted before anything is started."""

import random

import pytest

from ondol.core.admit import Admission
from ondol.model.errors import Throttled
from ondol.model.functions import Pin
from ondol.testing.pool import a_target


def function(name="hello", reserved=None):
    return a_target(name, reserved=reserved).function


def test_an_account_shares_its_concurrency_between_its_functions():
    admission = Admission(concurrency_max=3)
    for name in ("a", "b", "a"):
        admission.enter(function(name))
    with pytest.raises(Throttled) as refused:
        admission.enter(function("c"))
    assert refused.value.reason == "account"


def test_who_leaves_makes_room():
    admission = Admission(concurrency_max=1)
    for _ in range(3):
        admission.enter(function())
        admission.leave(function())
    assert admission.running(function().id) == 0


def test_a_refused_call_is_not_counted():
    admission = Admission(concurrency_max=1)
    admission.enter(function())
    for _ in range(5):
        with pytest.raises(Throttled):
            admission.enter(function())
    admission.leave(function())
    admission.enter(function())


def test_a_reservation_is_a_ceiling():
    admission = Admission(concurrency_max=100)
    mine = function(reserved=2)
    admission.enter(mine)
    admission.enter(mine)
    with pytest.raises(Throttled) as refused:
        admission.enter(mine)
    assert refused.value.reason == "function"


def test_a_reservation_of_nothing_stops_the_function():
    with pytest.raises(Throttled):
        Admission().enter(function(reserved=0))


def test_a_reservation_holds_when_the_others_take_all_they_share():
    admission = Admission(concurrency_max=10)
    mine = function("mine", reserved=4)
    admission.follow("function/mine", mine)
    for _ in range(6):
        admission.enter(function("other"))
    with pytest.raises(Throttled):
        admission.enter(function("other"))
    for _ in range(4):
        admission.enter(mine)


def test_what_was_reserved_is_shared_again_once_it_is_given_up():
    admission = Admission(concurrency_max=10)
    admission.follow("function/mine", function("mine", reserved=4))
    assert admission.shared("000000000000", "here") == 6
    admission.follow("function/mine", function("mine", reserved=7))
    assert admission.shared("000000000000", "here") == 3
    admission.follow("function/mine", function("mine"))
    assert admission.shared("000000000000", "here") == 10
    admission.follow("function/mine", function("mine", reserved=7))
    admission.follow("function/mine", None)
    assert admission.shared("000000000000", "here") == 10


def test_a_reservation_made_while_calls_run_leaves_the_books_balanced():
    admission = Admission(concurrency_max=2)
    before = function()
    admission.enter(before)
    after = function(reserved=5)
    admission.enter(after)
    admission.leave(before)
    admission.leave(after)
    admission.enter(before)
    admission.enter(before)
    with pytest.raises(Throttled):
        admission.enter(before)


def test_leaving_more_often_than_entering_is_a_bug_that_shows():
    with pytest.raises((AssertionError, KeyError)):
        Admission().leave(function())


def pinned(name, environments, qualifier="live"):
    return Pin(function=f"id-of-{name}", qualifier=qualifier, environments=environments)


def with_pins(environments, *, concurrency_max=10, name="mine", reserved=None):
    admission, mine = Admission(concurrency_max=concurrency_max), function(name, reserved)
    admission.follow(f"function/a/r/{mine.id}", mine)
    admission.follow(f"pin/{mine.id}/live", pinned(name, environments))
    return admission, mine


def test_pins_are_set_aside_and_used_first_and_what_is_beyond_them_is_shared():
    admission, mine = with_pins(4)
    other = function("other")
    for _ in range(6):
        admission.enter(other)
    with pytest.raises(Throttled):
        admission.enter(other)
    for _ in range(4):
        admission.enter(mine)
    with pytest.raises(Throttled) as refused:
        admission.enter(mine)
    assert refused.value.reason == "account"
    assert admission.levels(mine) == (4, 10, 6)
    admission.leave(other)
    admission.enter(mine)
    for _ in range(5):
        admission.leave(mine)
        admission.leave(other)
    assert admission.levels(mine) == (0, 0, 0)


def test_pins_of_a_function_with_a_reservation_are_within_it():
    admission, mine = with_pins(4, reserved=5)
    assert admission.shared(mine.account, mine.region) == 5
    for _ in range(5):
        admission.enter(mine)
    with pytest.raises(Throttled) as refused:
        admission.enter(mine)
    assert refused.value.reason == "function"


def test_pins_that_come_and_go_while_calls_run_leave_the_books_balanced():
    rng = random.Random(7)
    admission, mine = with_pins(2)
    running = 0
    for _ in range(3000):
        what = rng.random()
        if what < 0.1:
            pins = rng.choice([None, 1, 3, 8])
            admission.follow(f"pin/{mine.id}/live", pins and pinned("mine", pins))
        elif what < 0.55 or not running:
            try:
                admission.enter(mine)
                running += 1
            except Throttled:
                continue
        else:
            admission.leave(mine)
            running -= 1
        assert admission.running(mine.id) == running
    for _ in range(running):
        admission.leave(mine)
    admission.follow(f"pin/{mine.id}/live", None)
    assert admission.levels(mine) == (0, 0, 0)
    assert admission.shared(mine.account, mine.region) == 10


def test_a_function_that_is_deleted_gives_back_what_its_pins_set_aside():
    admission, mine = with_pins(4)
    admission.follow(f"function/a/r/{mine.id}", None)
    admission.follow(f"pin/{mine.id}/live", None)
    assert admission.shared(mine.account, mine.region) == 10


# Calls a second ---------------------------------------------------------------------------------------------------------
def paced(now, **more):
    return Admission(now_s=lambda: now[0], **more)


def followed(admission, each):
    admission.follow(f"function/a/r/{each.id}", each)


def call(admission, each, count=1):
    """So many calls that are over at once."""
    for _ in range(count):
        admission.enter(each, paced=True)
        admission.leave(each)


def refusal(admission, each):
    with pytest.raises(Throttled) as refused:
        call(admission, each)
    return refused.value.reason


def test_ten_times_the_concurrency_comes_in_each_second_and_no_more():
    now = [100.0]
    admission = paced(now, concurrency_max=3)
    call(admission, function("a"), 20)
    call(admission, function("b"), 10)
    assert refusal(admission, function("a")) == "account rate"
    now[0] += 0.5
    call(admission, function("c"), 15)
    assert refusal(admission, function("c")) == "account rate"


def test_a_reservation_has_a_rate_of_its_own():
    admission = paced([0.0], concurrency_max=10)
    mine = function("mine", reserved=2)
    followed(admission, mine)
    call(admission, mine, 20)
    assert refusal(admission, mine) == "function rate"
    call(admission, function("others"), 80)
    assert refusal(admission, function("others")) == "account rate"


def test_what_nobody_waits_for_is_not_paced():
    admission = paced([0.0], concurrency_max=1)
    call(admission, function(), 10)
    for _ in range(50):
        admission.enter(function())
        admission.leave(function())


def test_a_call_that_finds_no_room_uses_nothing_up():
    admission = paced([0.0], concurrency_max=1)
    admission.enter(function(), paced=True)
    for _ in range(30):
        assert refusal(admission, function()) == "account"
    admission.leave(function())
    call(admission, function(), 9)
    assert refusal(admission, function()) == "account rate"


def test_a_reservation_of_nothing_is_said_as_before():
    mine = function("mine", reserved=0)
    admission = paced([0.0])
    followed(admission, mine)
    assert refusal(admission, mine) == "function"


def test_a_changed_limit_holds_from_the_next_call_on():
    now = [0.0]
    admission = paced(now, concurrency_max=10)
    call(admission, function("others"), 100)
    mine = function("mine", reserved=4)
    followed(admission, mine)
    call(admission, function("others"), 60)
    assert refusal(admission, function("others")) == "account rate"
    call(admission, mine, 40)
    less = function("mine", reserved=1)
    followed(admission, less)
    call(admission, less, 10)
    assert refusal(admission, less) == "function rate"


def test_environments_that_are_kept_up_count_with_what_functions_share():
    admission = paced([0.0], concurrency_max=10)
    kept = function("kept")
    followed(admission, kept)
    admission.follow(f"pin/{kept.id}/$latest", Pin(function=kept.id, qualifier=None, environments=4))
    call(admission, kept, 100)
    assert refusal(admission, kept) == "account rate"


def test_what_a_front_is_leased_sets_its_rate_and_more_counts_at_once():
    leased = {("000000000000", "here"): 1}
    admission = paced([0.0], concurrency_max=10, leased=leased)
    call(admission, function(), 10)
    assert refusal(admission, function()) == "account rate"
    leased["000000000000", "here"] = 3
    call(admission, function(), 20)
    assert refusal(admission, function()) == "account rate"


@pytest.mark.parametrize("seed", range(20))
def test_however_calls_come_the_rate_holds_and_what_may_come_in_does(seed):
    """Over any stretch of time: at most what it brings and two seconds' worth; and with one call at a time, none is refused."""
    draw, now = random.Random(seed), [0.0]
    concurrency = draw.randint(1, 5)
    admission = paced(now, concurrency_max=concurrency)
    let_in = []
    for _ in range(4000):
        now[0] += draw.expovariate(1000) if draw.random() < 0.9 else draw.expovariate(3)
        try:
            call(admission, function())
        except Throttled:
            continue
        let_in.append(now[0])
    for first in range(0, len(let_in), 37):
        for last in range(first, len(let_in), 41):
            stretch_s = let_in[last] - let_in[first]
            assert last - first + 1 <= 10 * concurrency * (stretch_s + 2) + 1
    slow = paced(now, concurrency_max=concurrency)
    for _ in range(500):
        now[0] += 1.001 / (10 * concurrency)
        call(slow, function())
