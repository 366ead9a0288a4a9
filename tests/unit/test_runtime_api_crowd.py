"""A process that has several questions pending, and the calls that come to it by lanes; the process is played by the test."""

import asyncio
import functools
import json

from ondol.http.bodies import EMPTY
from ondol.http.messages import Request
from ondol.runtime import Ending
from ondol.runtimes import api_http
from ondol.runtimes.api_crowd import Crowd
from tests.unit import test_runtime_api as of_one
from tests.unit.test_runtime_api import Played, error_of

CALLS = 3


class PlayedCrowd(Played):
    def __init__(self):
        super().__init__(lambda *arguments: Crowd(*arguments, calls_max=CALLS))
        self.lanes = [self.worker.lane() for _ in range(CALLS)]

    def close(self):
        for lane in self.lanes:
            lane.close()

    def by(self, lane, name, value=None):
        """A call by one of the lanes: a task that gives (answer, lines)."""
        return self.call(value, by=lane, id=name)

    def asking(self, count):
        return [asyncio.ensure_future(self.next()) for _ in range(count)]

    async def running(self, *names):
        """The calls of these names, handed to the process."""
        questions = self.asking(len(names))
        await asyncio.sleep(0)
        calls = [self.by(lane, name) for lane, name in zip(self.lanes, names, strict=False)]
        for question in questions:
            await question
        return calls


played = functools.partial(of_one.played, make=PlayedCrowd)


def id_of(response):
    return dict(response.headers)["Lambda-Runtime-Aws-Request-Id"]


@played
async def test_each_question_gets_a_call_and_answers_come_back_in_any_order(play):
    questions = play.asking(3)
    await asyncio.sleep(0)
    calls = {name: play.by(lane, name, name) for lane, name in zip(play.lanes, "abc", strict=True)}
    given = [await question for question in questions]
    assert [id_of(each) for each in given] == ["a", "b", "c"]
    for name in "cab":
        assert (await play.answers(json.dumps(name * 2).encode(), invocation=name)).status == 202
        answer, _ = await calls[name]
        assert (answer.ending, answer.body) == (Ending.OK, json.dumps(name * 2).encode())


@played
async def test_a_call_waits_for_a_question_however_many_others_run(play):
    await play.running("a")
    waiting = play.by(play.lanes[1], "b")
    await asyncio.sleep(0)
    assert not waiting.done()
    assert id_of(await play.next()) == "b"


@played
async def test_a_question_whose_client_went_away_gets_no_call(play):
    gone = Request("GET", "/2018-06-01/runtime/invocation/next", (), EMPTY)
    asked = asyncio.ensure_future(api_http.serve(play.worker, gone))
    await asyncio.sleep(0)
    (question,) = play.asking(1)
    await asyncio.sleep(0)
    gone.left()
    assert (await asked).status == 500
    call = play.by(play.lanes[0], "a")
    assert id_of(await question) == "a"
    gone.left()
    await play.answers(invocation="a")
    assert (await call)[0].ending is Ending.OK


@played
async def test_who_asks_more_often_than_calls_may_run_has_the_oldest_question_refused(play):
    questions = play.asking(CALLS + 1)
    await asyncio.sleep(0)
    assert (await questions[0]).status == 500
    call = play.by(play.lanes[0], "a")
    assert id_of(await questions[1]) == "a"
    await play.answers(invocation="a")
    assert (await call)[0].ending is Ending.OK


@played
async def test_an_answer_counts_once_and_for_the_call_that_it_names(play):
    first, second = await play.running("a", "b")
    assert error_of(await play.answers(invocation="c"))[:2] == (400, "InvalidRequestID")
    assert (await play.answers(b'"own"', "error", "b")).status == 202
    assert error_of(await play.answers(invocation="b"))[:2] == (400, "InvalidRequestID")
    assert (await second)[0].ending is Ending.ERROR
    assert not first.done()


@played
async def test_lines_of_the_only_call_are_its_own_and_of_several_those_that_name_it(play):
    first, second = await play.running("one-id", "another-id")
    play.says('{"requestId": "one-id"}\nnobody said whose\n')
    await play.answers(invocation="one-id")
    play.says("the rest\n")
    await play.answers(invocation="another-id")
    assert (await first)[1] == ['{"requestId": "one-id"}\n']
    assert (await second)[1] == ["the rest\n"]
    assert play.idle == ["nobody said whose\n"]


@played
async def test_all_calls_that_waited_for_it_to_load_are_told_how_long_that_took(play):
    calls = [play.by(lane, name) for lane, name in zip(play.lanes, "ab", strict=False)]
    for _ in calls:
        await play.answers(invocation=id_of(await play.next()))
    later = play.by(play.lanes[2], "c")
    await play.answers(invocation=id_of(await play.next()))
    assert [(await each)[0].init_ms for each in calls] == [play.worker.init_ms] * 2
    assert (await later)[0].init_ms is None


@played
async def test_a_process_that_ends_ends_all_that_it_was_given_and_has_not_started_what_waits(play):
    await play.running("z")
    given = play.by(play.lanes[0], "a")
    await play.next()
    waiting = play.by(play.lanes[1], "b")
    play.child.exits(9)
    assert [((await each)[0].ending, (await each)[0].started) for each in (given, waiting)] == [
        (Ending.DEAD, True),
        (Ending.DEAD, False),
    ]
    assert [await lane.ended() for lane in play.lanes] == [9] * CALLS
    assert not play.lanes[0].alive


@played
async def test_each_lane_may_ask_the_process_to_end_and_it_is_asked_once(play):
    for number in (15, 15, 9):
        for lane in play.lanes:
            lane.signal(number)
    assert play.child.signals == [15, 9]


@played
async def test_a_failure_to_load_is_every_calls_answer(play):
    calls = [play.by(lane, name) for lane, name in zip(play.lanes, "ab", strict=False)]
    await play.asks("POST", "runtime/init/error", b'{"errorMessage": "no"}')
    for call in (*calls, play.by(play.lanes[2], "c")):
        answer, _ = await call
        assert (answer.ending, answer.body) == (Ending.INIT_ERROR, b'{"errorMessage": "no"}')


@played
async def test_an_answer_that_nobody_waits_for_any_more_harms_nobody(play):
    first, second = await play.running("a", "b")
    first.cancel()
    await asyncio.sleep(0)
    assert (await play.answers(invocation="a")).status == 202
    await play.answers(invocation="b")
    assert (await second)[0].ending is Ending.OK


@played
async def test_a_call_that_is_given_up_before_it_was_handed_over_is_not(play):
    given_up = play.by(play.lanes[0], "a")
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    play.by(play.lanes[1], "b")
    assert id_of(await play.next()) == "b"


@played
async def test_a_lane_that_is_closed_has_ended_and_the_process_is_let_go_with_the_last(play):
    play.lanes[0].close()
    assert await play.lanes[0].ended() == 0
    assert (play.left, play.lanes[1].alive) == (0, True)
    questions = play.asking(1)
    await asyncio.sleep(0)
    play.lanes[1].close()
    play.lanes[2].close()
    assert (await questions[0]).status == 500
    assert play.left == 1
