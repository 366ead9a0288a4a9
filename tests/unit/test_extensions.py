"""Extensions without processes: what they are told, in which order, and what any order of questions comes to."""

import asyncio
import dataclasses
import json
import signal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.http.bodies import EMPTY, Whole
from ondol.http.messages import Request
from ondol.model.invocations import Report, Status
from ondol.runtime import Answer, Call, Ending
from ondol.runtimes import company_http
from ondol.runtimes.accompanied import end
from ondol.runtimes.broadcast import Broadcast
from ondol.runtimes.company import About, Company, Failure
from ondol.runtimes.company_errors import Refusal
from ondol.runtimes.extension_states import OutOfTurn, Stage, moved
from ondol.runtimes.subscription import Subscription
from ondol.runtimes.telemetry_wanted import Api, wanted
from ondol.testing.pool import ScriptedWorker, Script, virtually

ABOUT = About(
    account="1",
    name="f",
    version="$LATEST",
    handler="a.b",
    initialization="on-demand",
    instance="s",
    memory_mib=128,
    json_lines=False,
)
CALL = Call(meta=json.dumps({"id": "r-1", "deadline_ms": 5, "arn": "arn:f", "trace": "Root=1"}).encode(), payload=b"{}")
REPORT = Report(
    invocation="r-1",
    revision="x",
    version=None,
    status=Status.OK,
    duration_ms=2.5,
    memory_mib=128,
    memory_peak_mib=30,
    timeout_s=3,
)
WANTED = {
    "schemaVersion": "2022-12-13", "types": ["platform", "function"],
    "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/x?y=1"},
}  # fmt: skip


class House:
    """A company, and what it wrote."""

    def __init__(self, *names):
        self.lines = []
        self.left = 0
        self.company = Company(ABOUT, names, lambda text, at_ms: self.lines.append(text), self._left)
        self.worker = ScriptedWorker(Script(), lambda text, at_ms: None)

    def _left(self, _):
        self.left += 1

    async def asks(self, method, path, body=b"", **headers):
        given = [(name.replace("_", "-").lower(), value) for name, value in headers.items()]
        return await company_http.serve(self.company, Request(method, path, given, Whole(body) if body else EMPTY))

    async def registers(self, name, *events, **headers):
        body = json.dumps({"events": events}).encode()
        said = await self.asks("POST", "/2020-01-01/extension/register", body, lambda_extension_name=name, **headers)
        return dict(said.headers).get("Lambda-Extension-Identifier"), said

    def next(self, me):
        return asyncio.ensure_future(self.asks("GET", "/2020-01-01/extension/event/next", lambda_extension_identifier=me or ""))

    def call(self):
        return asyncio.ensure_future(self.company.call(self.worker, CALL, lambda text, at_ms: self.lines.append(text)))


class Aside(House):
    """A company of several workers whose calls run side by side, and what it told a subscriber."""

    def __init__(self, *names):
        super().__init__(*names)
        self.company.about = dataclasses.replace(ABOUT, side_by_side=True)
        self.company.deliver, self.batches = self._delivered, []

    async def _delivered(self, wanted, data):
        self.batches += json.loads(data)
        return True

    async def begins(self, name):
        """A call by a worker of its own, which answers when the future is done."""
        answer = asyncio.get_running_loop().create_future()

        async def waits(worker, call, sink):
            sink(f"said in {name}", None)
            return await answer

        worker = ScriptedWorker(Script(handler=waits), lambda text, at_ms: None)
        self.company.workers.append(worker)
        call = Call(meta=json.dumps({"id": name, "arn": "arn:f"}).encode(), payload=b"{}")
        calling = asyncio.ensure_future(self.company.call(worker, call, lambda text, at_ms: self.lines.append(text)))
        await turn()
        return calling, answer


async def turn():
    for _ in range(8):
        await asyncio.sleep(0)


@virtually
async def test_who_asked_to_be_is_told_of_a_call_and_only_once():
    house = House("a", "b")
    (one, said), (two, _) = await house.registers("a", "INVOKE"), await house.registers("b", "SHUTDOWN")
    assert json.loads(said.body) == {"functionName": "f", "functionVersion": "$LATEST", "handler": "a.b"}
    asked = house.next(one), house.next(two)
    answer = await house.call()
    await turn()
    assert answer.ending is Ending.OK
    assert json.loads(asked[0].result().body) == {
        "eventType": "INVOKE", "deadlineMs": 5, "requestId": "r-1", "invokedFunctionArn": "arn:f",
        "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"},
    }  # fmt: skip
    assert not asked[1].done()
    again = house.next(one)
    await turn()
    assert not again.done()
    house.company.close()
    assert (await again).status == (await asked[1]).status == 500
    house.company.close()
    assert house.left == 1


@virtually
async def test_the_rest_is_until_all_who_were_told_have_asked_again_or_time_is_up():
    house = House("a", "b")
    (one, _), (two, _) = await house.registers("a", "INVOKE"), await house.registers("b", "INVOKE")
    questions = [house.next(one), house.next(two)]
    await house.call()
    house.company.settled(REPORT, 4)
    resting = asyncio.ensure_future(house.company.rest(5.0))
    house.next(one)
    await turn()
    assert not resting.done()
    assert house.company.busy == ["b"]
    house.next(two)
    assert await resting == []
    assert all(question.done() for question in questions)
    await house.call()
    house.company.settled(REPORT, 4)
    assert sorted(await house.company.rest(5.0)) == ["a", "b"]
    house.company.close()


@virtually
async def test_a_failure_ends_the_call_that_runs_and_every_later_one():
    house = House("a")
    house.worker.script.handler = never
    me, _ = await house.registers("a", "INVOKE")
    house.next(me)
    calling = house.call()
    await turn()
    house.company.exited("a", "exit status 3")
    house.company.exited("a", "another reason")
    for answer in (await calling, await house.call()):
        assert answer.ending is Ending.INIT_ERROR
        assert json.loads(answer.body) == {
            "errorType": "Extension.Crash",
            "errorMessage": "RequestId: r-1 Error: exit status 3",
        }
    assert house.lines.count("RequestId: r-1 Error: exit status 3\nExtension.Crash\n") == 2
    house.company.close()


async def never(worker, call, sink):
    await asyncio.sleep(1e9)


@virtually
async def test_calls_wait_until_loading_has_ended():
    house = House("a")
    house.company.loading = asyncio.get_running_loop().create_future()
    calling = house.call()
    await turn()
    assert not calling.done()
    assert house.worker.calls == 0
    house.company.loading.set_result(None)
    assert (await calling).ending is Ending.OK
    house.company.close()


@virtually
async def test_an_internal_one_is_told_of_the_call_that_its_runtime_loads_for():
    house = House()
    house.worker.script.load_s = 5.0
    assert not house.company.there
    calling = house.call()
    await turn()
    me, _ = await house.registers("inner", "INVOKE")
    assert house.company.there
    assert json.loads((await house.next(me)).body)["requestId"] == "r-1"
    assert (await calling).ending is Ending.OK
    house.company.close()


ERROR = {"lambda_extension_function_error_type": "My.Error"}


@pytest.mark.parametrize(("path", "kind"), [("init/error", "Extension.InitError"), ("exit/error", "Extension.ExitError")])
@virtually
async def test_what_an_internal_one_reports_fails_the_call_that_its_runtime_loads_for(path, kind):
    house = House()
    house.worker.script.load_s = 1e9
    calling = house.call()
    await turn()
    me, _ = await house.registers("inner", "INVOKE")
    said = await house.asks("POST", f"/2020-01-01/extension/{path}", lambda_extension_identifier=me, **ERROR)
    assert said.status == 202
    answer = await calling
    message = "RequestId: r-1 Error: extension inner: My.Error"
    assert (answer.ending, answer.meta) == (Ending.INIT_ERROR, {"error_type": kind})
    assert json.loads(answer.body) == {"errorType": kind, "errorMessage": message}
    state = kind.removeprefix("Extension.")
    assert house.lines == [
        f"EXTENSION\tName: inner\tState: {state}\tEvents: [INVOKE]\tError Type: My.Error\n",
        f"{message}\n{kind}\n",
    ]
    house.company.close()


@virtually
async def test_a_failure_between_calls_is_no_later_call_s_and_ends_the_runtime():
    house = House()
    house.company.workers = [house.worker]
    house.worker.script.load_s = 5.0
    calling = house.call()
    await turn()
    me, _ = await house.registers("inner", "INVOKE")
    assert (await calling).ending is Ending.OK
    house.company.settled(REPORT, 4)
    resting = asyncio.ensure_future(house.company.rest(60.0))
    await house.asks("POST", "/2020-01-01/extension/exit/error", lambda_extension_identifier=me, **ERROR)
    await resting
    assert house.company.broken
    assert house.worker.signals == [signal.SIGKILL]
    assert house.lines[-1] == "RequestId:  Error: extension inner: My.Error\nExtension.ExitError\n"
    later = await house.call()
    assert (later.ending, later.started) == (Ending.DEAD, False)
    house.company.close()


@virtually
async def test_one_that_fails_while_nobody_waits_for_its_runtime_ends_that():
    house = House()
    house.company.workers = [house.worker]
    house.worker.script.load_s = 1e9
    me, _ = await house.registers("inner")
    await house.asks("POST", "/2020-01-01/extension/init/error", lambda_extension_identifier=me, **ERROR)
    assert house.worker.signals == [signal.SIGKILL]
    assert (await house.call()).meta == {"error_type": "Extension.InitError"}
    house.company.close()


@virtually
async def test_shutdown_goes_to_those_who_asked_for_it_whenever_they_ask():
    house = House("a", "b")
    (one, _), (two, _) = await house.registers("a", "SHUTDOWN"), await house.registers("b", "INVOKE", "SHUTDOWN")
    waiting = house.next(one)
    house.company.shut_down("spindown", 12.5)
    told = [await waiting, await house.next(two)]
    expected = {"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": 12500}
    assert [json.loads(each.body) for each in told] == [expected, expected]
    house.company.close()


@virtually
async def test_what_became_of_each_is_in_the_log():
    house = House("a", "b")
    await house.registers("a", "INVOKE", "SHUTDOWN")
    house.company.unlaunched("b", "fork/exec /opt/extensions/b: permission denied")
    house.company.settle_in()
    house.company.settle_in()
    assert house.lines == [
        "RequestId:  Error: fork/exec /opt/extensions/b: permission denied\nExtension.LaunchError\n",
        "EXTENSION\tName: a\tState: Registered\tEvents: [INVOKE, SHUTDOWN]\n",
        "EXTENSION\tName: b\tState: LaunchError\tEvents: []\tError Type: Extension.LaunchError\n",
    ]
    house.company.close()


STEPS = st.sampled_from(["register", "next", "init/error", "exit/error", "call", "shutdown", "nobody"])


@pytest.mark.parametrize(
    ("name", "events", "says"),
    [
        ("a", ("INVOKE",), "INVOKE: ErrorInvalidEventType"),
        ("a", ("SHUTDOWN", "INVOKE"), "INVOKE: ErrorInvalidEventType"),
        ("inside", ("INVOKE",), "No events allowed for internal extensions"),
        ("inside", ("SHUTDOWN",), "No events allowed for internal extensions"),
    ],
)
def test_beside_several_calls_nobody_registers_for_them(name, events, says):
    @virtually
    async def story():
        house = Aside("a")
        _, said = await house.registers(name, *events)
        assert said.status == 403
        assert json.loads(said.body) == {"errorType": "Extension.InvalidEventType", "errorMessage": says}
        for right in (("a", "SHUTDOWN"), ("inside",)):
            assert (await house.registers(*right))[1].status == 200
        house.company.close()

    story()


@virtually
async def test_calls_side_by_side_are_told_of_by_their_own_ids_each_when_it_ends():
    house = Aside("a")
    me, _ = await house.registers("a", "SHUTDOWN")
    wanted = {**WANTED, "schemaVersion": "2025-01-29", "buffering": {"timeoutMs": 25}}
    said = await house.asks("PUT", "/2022-07-01/telemetry", json.dumps(wanted).encode(), lambda_extension_identifier=me)
    assert said.status == 200
    calls = {name: await house.begins(name) for name in ("r-1", "r-2", "r-3")}
    for name in ("r-2", "r-3", "r-1"):
        calling, answer = calls[name]
        answer.set_result(Answer(ending=Ending.OK, body=b"done"))
        await calling
        house.company.settled(msgspec.structs.replace(REPORT, invocation=name), 4)
    assert house.company.busy == []
    await asyncio.sleep(1)
    told = [(each["type"], each["record"]) for each in house.batches]
    assert [record["requestId"] for kind, record in told if kind == "platform.start"] == ["r-1", "r-2", "r-3"]
    assert [record for kind, record in told if kind == "platform.report"] == [
        {"requestId": name, "status": "success", "metrics": {"durationMs": 2.5}} for name in ("r-2", "r-3", "r-1")
    ]
    assert [record for kind, record in told if kind == "function"] == ["said in r-1", "said in r-2", "said in r-3"]
    assert "platform.runtimeDone" not in dict(told)
    house.company.close()


@virtually
async def test_a_failure_of_one_extension_ends_all_calls_that_run():
    house = Aside("a")
    await house.registers("a", "SHUTDOWN")
    calls = [(await house.begins(name))[0] for name in ("r-1", "r-2")]
    house.company.exited("a", "exit status 3")
    for name, calling in zip(("r-1", "r-2"), calls, strict=True):
        assert json.loads((await calling).body)["errorMessage"] == f"RequestId: {name} Error: exit status 3"
    house.company.close()


@virtually
async def test_what_begins_beside_others_after_a_failure_was_never_begun_and_an_internal_one_ends_all_workers():
    house = Aside()
    me, _ = await house.registers("inside")
    calling, answer = await house.begins("r-1")
    answer.set_result(Answer(ending=Ending.OK))
    await calling
    house.company.settled(REPORT, 4)
    running, _ = await house.begins("r-2")
    failure = {"lambda_extension_identifier": me, "lambda_extension_function_error_type": "Extension.Mine"}
    assert (await house.asks("POST", "/2020-01-01/extension/exit/error", **failure)).status == 202
    assert (await running).meta == {"error_type": "Extension.ExitError"}
    assert all(worker.signals == [9] for worker in house.company.workers)
    later, _ = await house.begins("r-3")
    assert ((await later).ending, (await later).started) == (Ending.DEAD, False)
    house.company.close()


@virtually
async def test_at_the_end_all_workers_are_asked_and_those_that_stay_are_killed():
    house = Aside("a")
    me, _ = await house.registers("a", "SHUTDOWN")
    asked = house.next(me)
    stays, goes, gone = (ScriptedWorker(Script(), lambda text, at_ms: None) for _ in range(3))
    house.company.workers += [stays, goes, gone]
    gone.die(0)
    goes.signal = lambda number: goes.die(0)
    house.company.ending = lambda reason: end(house.company, None, reason)
    await house.company.leave("")
    assert (stays.signals, gone.signals) == ([15, 9], [])
    house.company.close()
    await asked


@given(steps=st.lists(STEPS, max_size=30))
@settings(max_examples=150, deadline=None)
def test_whatever_is_asked_is_answered_in_the_order_of_the_table(steps):
    @virtually
    async def run():
        house, me, stage, tasks = House("a"), None, Stage.STARTED, []
        extension = house.company.externals[0]
        for step in steps:
            if step == "register":
                new, said = await house.registers("a", "INVOKE", "SHUTDOWN")
                assert (said.status == 200) == (stage is Stage.STARTED)
                me = me or new
            elif step == "call":
                tasks.append(house.call())
            elif step == "shutdown":
                house.company.shut_down("spindown", 1.0)
            elif step == "next":
                tasks.append(house.next(me))
            else:
                path = "exit/error" if step == "nobody" else step
                given = "8476a536-e9f4-11e8-9739-2dfe598c3fcd" if step == "nobody" else me or ""
                headers = {"lambda_extension_identifier": given, "lambda_extension_function_error_type": "E.F"}
                said = await house.asks("POST", f"/2020-01-01/extension/{path}", **headers)
                assert said.status in (202, 403)
                assert step != "nobody" or said.status == 403
            await turn()
            assert stage is extension.stage or (step, extension.stage) != ("nobody", stage)
            stage = extension.stage
            assert len(extension.waiting) <= len(steps)
        house.company.close()
        for task in tasks:
            done = await task
            assert isinstance(done, Answer) or done.status in (200, 403, 500)

    run()


@given(stage=st.sampled_from(list(Stage)), to=st.sampled_from(list(Stage)))
def test_a_move_is_made_or_told_about(stage, to):
    try:
        assert moved(stage, to, "x") is to
    except OutOfTurn as error:
        assert f"from {stage.value} to {to.value} failed for extension x" in str(error)  # noqa: PT017


# Telemetry --------------------------------------------------------------------------------------------------------------


def test_a_subscription_has_the_documented_defaults():
    found = wanted(json.dumps(WANTED).encode(), Api.TELEMETRY)
    assert (found.items_max, found.bytes_max, found.timeout_ms) == (1000, 262_144, 1000)
    assert (found.protocol, found.port, found.path, found.method) == ("HTTP", 8080, "/x?y=1", "POST")
    assert found.types == ("platform", "function")


@pytest.mark.parametrize(
    "wrong",
    [
        {"schemaVersion": None}, {"schemaVersion": ["2022-12-13"]}, {"types": "platform"}, {"types": ["platform", 1]},
        {"types": [{}]}, {"buffering": []}, {"buffering": {"maxBytes": True}}, {"buffering": {"timeoutMs": 24}},
        {"destination": {"protocol": []}}, {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:99999"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:0"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:80/\r\nX: y"}},
        {"destination": {"protocol": "HTTP", "URI": "http://me@sandbox.localdomain:80/"}},
        {"destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain.example.com:80"}},
        {"destination": {"protocol": "TCP", "URI": "http://sandbox:80"}}, {"destination": {"protocol": "TCP", "port": "80"}},
        {"destination": {**WANTED["destination"], "method": "GET"}},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_subscription_that_is_wrong_is_refused(wrong):
    with pytest.raises(Refusal) as refused:
        wanted(json.dumps({**WANTED, **wrong}).encode(), Api.TELEMETRY)
    assert refused.value.kind == "ValidationError"


class Receiver:
    """Takes batches, or does not."""

    def __init__(self, **more):
        self.batches = []
        self.refusing = False
        made = wanted(json.dumps({**WANTED, **more}).encode(), Api.TELEMETRY)
        self.subscription = Subscription(made, self.deliver, lambda records, size: {"lost": [records, size]})

    async def deliver(self, wanted, data):
        if self.refusing:
            return False
        self.batches.append(json.loads(data))
        return True


@virtually
async def test_events_go_when_there_are_enough_or_time_is_up():
    receiver = Receiver(buffering={"timeoutMs": 500})
    for number in range(1000):
        receiver.subscription.add({"n": number})
    await turn()
    assert [len(batch) for batch in receiver.batches] == [1000]
    receiver.subscription.add({"n": 1000})
    await asyncio.sleep(0.4)
    assert len(receiver.batches) == 1
    await asyncio.sleep(0.2)
    assert receiver.batches[1] == [{"n": 1000}]
    receiver.subscription.close()


@virtually
async def test_what_is_lost_is_bounded_counted_and_told_in_front_of_the_next():
    receiver = Receiver()
    receiver.refusing = True
    event = {"text": "x" * 1000}
    for _ in range(2000):
        receiver.subscription.add(event)
    await asyncio.sleep(60)
    receiver.refusing = False
    receiver.subscription.add({"text": "at last"})
    await receiver.subscription.flush()
    first, *others = [each for batch in receiver.batches for each in batch]
    records, size = first["lost"]
    assert records + len(others) == 2001
    assert size == records * len(json.dumps(event, separators=(",", ":")))
    receiver.subscription.close()


@virtually
async def test_a_subscriber_that_is_frozen_loses_nothing():
    receiver = Receiver(buffering={"timeoutMs": 25})
    receiver.refusing = True
    receiver.subscription.add({"n": 1})
    await asyncio.sleep(0.03)
    receiver.subscription.pause(on=True)
    receiver.subscription.add({"n": 2})
    await asyncio.sleep(3600)
    receiver.refusing = False
    receiver.subscription.pause(on=False)
    await asyncio.sleep(1)
    assert [each for batch in receiver.batches for each in batch] == [{"n": 1}, {"n": 2}]
    receiver.subscription.close()


@virtually
async def test_who_subscribes_gets_what_was_before_and_nothing_it_did_not_ask_for():
    broadcast = Broadcast(json_lines=True)
    broadcast.platform("platform.initStart", {})  # nobody listens
    broadcast.listen()
    broadcast.platform("platform.initStart", {"phase": "init"})
    sink = broadcast.tapped(lambda text, at_ms: None)
    sink('{"level": "INFO"}\n', 0)
    broadcast.extension("not asked for\n", 0)
    batches = []

    async def deliver(wanted, data):
        batches.append(json.loads(data))
        return True

    broadcast.subscribe("me", wanted(json.dumps(WANTED).encode(), Api.TELEMETRY), deliver)
    broadcast.subscribe("old", wanted(json.dumps({**WANTED, "schemaVersion": "2020-08-15"}).encode(), Api.LOGS), deliver)
    broadcast.runtime_done(REPORT, 3)
    broadcast.report(REPORT, 7.5)
    for subscription in broadcast.subscriptions:
        await subscription.flush()
    newer, older = batches
    assert [each["type"] for each in newer] == ["platform.initStart", "function", "platform.runtimeDone", "platform.report"]
    assert newer[1] == {"time": "1970-01-01T00:00:00.000Z", "type": "function", "record": {"level": "INFO"}}
    assert newer[3]["record"]["metrics"]["durationMs"] == 10.0
    assert [each["type"] for each in older] == ["function", "platform.end", "platform.report"]
    assert older[0]["record"] == '{"level": "INFO"}\n'
    assert set(older[2]["record"]) == {"requestId", "metrics"}
    broadcast.close()


class Listening:
    """A house with a subscriber to each API, and what they were told of the platform."""

    def __init__(self):
        self.house = House("a")
        self.house.company.workers = [self.house.worker]
        self.house.worker.script.handler = never
        self.house.company.settle_in()
        self.told = {Api.TELEMETRY: [], Api.LOGS: []}
        for api, schema in ((Api.TELEMETRY, "2022-12-13"), (Api.LOGS, "2021-03-18")):
            made = wanted(json.dumps({**WANTED, "schemaVersion": schema}).encode(), api)
            self.house.company.broadcast.subscribe(api.value, made, self.deliver)

    async def deliver(self, wanted, data):
        self.told[wanted.api] += json.loads(data)
        return True

    async def ends(self, reason):
        """Have it leave while a call runs; what each was told: type and record."""
        await self.house.company.leave(reason)
        for subscription in self.house.company.broadcast.subscriptions:
            await subscription.flush()
        self.house.company.close()
        return [[(each["type"], each["record"]) for each in told] for told in self.told.values()]


@pytest.mark.parametrize(
    ("status", "how"),
    [(3, "with error: exit status 3"), (0, "without providing a reason"), (-9, "with error: signal: killed")],
)
@virtually
async def test_the_older_api_is_told_of_a_runtime_that_ended_in_a_call(status, how):
    listening = Listening()
    calling = listening.house.call()
    await turn()
    listening.house.worker.die(status)
    await calling
    newer, older = await listening.ends("failure")
    assert [kind for kind, _ in newer] == ["platform.start", "platform.runtimeDone"]
    assert newer[1][1]["errorType"] == "Runtime.ExitError"
    assert older[1:] == [
        ("platform.fault", f"RequestId: r-1 Error: Runtime exited {how}\nRuntime.ExitError\n"),
        ("platform.runtimeDone", {"requestId": "r-1", "status": "error"}),
    ]


@virtually
async def test_the_older_api_is_told_of_an_extension_that_failed_in_a_call():
    listening = Listening()
    calling = listening.house.call()
    await turn()
    listening.house.company.exited("a", "exit status 3")
    await calling
    newer, older = await listening.ends("failure")
    assert newer[-1][1]["errorType"] == "Extension.Crash"
    assert ("platform.fault", "RequestId: r-1 Error: exit status 3\nExtension.Crash\n") in older


@virtually
async def test_a_call_that_ran_out_of_time_is_no_fault():
    listening = Listening()
    calling = listening.house.call()
    await turn()
    for told in await listening.ends("timeout"):
        assert [kind for kind, _ in told] == ["platform.start", "platform.runtimeDone"]
        assert told[1][1]["status"] == "timeout"
    calling.cancel()


@virtually
async def test_a_call_that_found_nothing_to_run_began_and_ended_all_the_same():
    listening = Listening()
    listening.house.company.loading = asyncio.get_running_loop().create_future()
    calling = listening.house.call()
    await turn()
    listening.house.company.unlaunched("a", "fork/exec /opt/extensions/a: permission denied")
    listening.house.company.loading.set_result(None)
    await calling
    newer, older = await listening.ends("failure")
    assert [kind for kind, _ in newer][-2:] == ["platform.start", "platform.runtimeDone"]
    assert [kind for kind, _ in older][-3:] == ["platform.start", "platform.fault", "platform.runtimeDone"]


def test_a_failure_is_the_first():
    async def run():
        house = House("a")
        house.company.fail(Failure("Extension.Crash", "one"))
        house.company.fail(Failure("Extension.Crash", "two"))
        assert house.company.failed.result().text == "one"
        house.company.close()

    asyncio.run(run())
