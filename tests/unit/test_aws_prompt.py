"""Invoke without a coroutine takes the usual request, answers it as `AwsFront.serve` would, and leaves all others to that."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys

from ondol.accelerator import hot
from ondol.app.shared import TABLE
from ondol.clock import SystemClock
from ondol.contracts.aws import AwsContract
from ondol.core.catalog import delete, put
from ondol.core.prompt import Prompt
from ondol.dialects.aws.auth import Verifier
from ondol.dialects.aws.credentials import Credentials
from ondol.dialects.aws.dialect import AwsFront
from ondol.dialects.aws.grants import Grants
from ondol.dialects.aws.invoke import Invoke
from ondol.dialects.aws.prompt import PromptInvoke
from ondol.http.bodies import Whole
from ondol.http.guard import allowed
from ondol.http.messages import Request
from ondol.http.passing import Passing
from ondol.model.functions import Handle
from ondol.model.principals import AccessKey
from ondol.node.doors import FrontDoor
from ondol.store import Change
from ondol.testing.pool import a_target
from tests.unit.test_core_invoke import Node

pytestmark = pytest.mark.skipif(not hot.built, reason="without the accelerator every request goes the long way")

HOST, PATH = "127.0.0.1:7979", "/2015-03-31/functions/hello/invocations"
KEY = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


class Front(Node):
    """A node's front without its sockets."""

    def __init__(self, **settings):
        super().__init__(a_target("hello", runtime="python3.11"), contract=AwsContract(), **settings)
        function = self.target.function
        self.account, self.region = function.account, "us-east-1"
        self.key = AccessKey(id=KEY.access_key, secret=KEY.secret_key, account=self.account, created_s=0.0)
        self.change(
            Handle(dialect="aws", account=self.account, region=self.region, name="hello", function=function.id), self.key
        )
        verifier = Verifier(
            keys=self.index.key,
            credentials=Credentials(b"x" * 32),
            clock=SystemClock(),
            account=self.account,
            region=self.region,
        )
        ready = asyncio.Event()
        ready.set()
        invoke = Invoke(index=self.index, invoker=self.invoker, grants=Grants(self.index, SystemClock()))
        self.door = FrontDoor(
            table=TABLE,
            dialects={"aws": AwsFront(verifier=verifier, invoke=invoke)},
            passing=Passing(None),
            hosts=allowed("127.0.0.1"),
            ready=ready,
        )
        self.prompt = PromptInvoke(
            verifier=verifier, index=self.index, prompt=Prompt(self.invoker), leads_to=self.door.leads_to
        )

    def change(self, *nouns, gone=()):
        for made in (*map(put, nouns), *map(delete, gone)):
            self.index.apply(Change(self.index.number + 1, made.key, getattr(made, "value", None)))

    async def both(self, request):
        """(whether it was taken, the answer, the answer of the long way), without what differs from call to call."""
        told = asyncio.get_running_loop().create_future()
        taken = self.prompt(request, told.set_result)
        return taken, shown(await told) if taken else None, shown(await self.door(request))


@asynccontextmanager
async def front(**settings):
    made = Front(**settings)
    try:
        yield made
    finally:
        await made.pool.close()


def shown(response):
    headers = {name: value for name, value in response.headers if name.lower() not in ("x-amzn-requestid", "x-amzn-trace-id")}
    return response.status, headers, response.body


def signed(body=b'{"a": 1}', *, path=PATH, key=KEY, region="us-east-1", service="lambda", at_s=None, **headers):
    """The request as it comes from the wire."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    made = AWSRequest("POST", f"http://{HOST}{path}", data=body, headers=given)
    SigV4Auth(key, service, region).add_auth(made)
    if at_s is not None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at_s))
        made = AWSRequest("POST", f"http://{HOST}{path}", data=body, headers=given)
        made.context["timestamp"] = stamp
        auth = SigV4Auth(key, service, region)
        made.headers["X-Amz-Date"] = stamp
        text = auth.string_to_sign(made, auth.canonical_request(made))
        auth._inject_signature_to_request(made, auth.signature(text, made))
    fields = [("host", HOST), *((name.lower(), value) for name, value in made.headers.items())]
    return Request("POST", path, fields, Whole(body), "127.0.0.1:9")


async def test_the_usual_call_is_taken_and_answered_like_the_other_way():
    async with front() as here:
        for body in (b'{"a": 1}', b"", b"null", '"\u00fc"'.encode(), b"[" + b"1," * 900 + b"1]"):
            taken, ours, theirs = await here.both(signed(body))
            assert taken
            assert ours == theirs
            assert ours[0] == 200
        assert here.under_way() == 0


async def test_a_function_that_does_not_answer_is_told_of_in_the_same_words():
    async with front() as here:
        await here.both(signed())
        here.runtime.missing = "install it"
        here.change(replace(here.target.revision, id="r2"), replace(here.target.function, latest="r2"))
        taken, ours, theirs = await here.both(signed())
        assert taken
        assert ours == theirs
        assert ours[0] != 200


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: signed(X_Amz_Log_Type="Tail"),
        lambda: signed(X_Amz_Invocation_Type="DryRun"),
        lambda: signed(X_Amz_Client_Context="e30="),
        lambda: signed(X_Amz_Tenant_Id="blue"),
        lambda: signed(Origin="http://elsewhere"),
        lambda: signed(Sec_Fetch_Site="cross-site"),
        lambda: signed(path=f"{PATH}?Qualifier=$LATEST"),
        lambda: signed(path=PATH.replace("hello", "nobody")),
        lambda: signed(path=PATH.replace("hello", "hello%3Alive")),
        lambda: signed(b"{"),
        lambda: signed(b"\xff"),
        lambda: signed(b'"' + b"a" * 3000 + b'"'),
        lambda: signed(key=Keys(KEY.access_key, "another")),
        lambda: signed(key=Keys("AKIAIOSFODNN7NOBODY0", KEY.secret_key)),
        lambda: signed(key=Keys(KEY.access_key, KEY.secret_key, "a session's token")),
        lambda: signed(service="s3"),
        lambda: signed(at_s=time.time() - 400),
        lambda: signed(at_s=time.time() + 400),
        lambda: signed(X_Amz_Content_Sha256=hashlib.sha256(b'{"a": 1}').hexdigest()),
    ],
)
async def test_what_is_unusual_or_wrong_is_left_to_the_other_way(request_of):
    async with front() as here:
        assert (await here.both(signed()))[0]  # and stays unusual once the usual one is known
        taken, _, theirs = await here.both(request_of())
        assert not taken
        assert theirs is not None
        assert here.under_way() == 0


@pytest.mark.parametrize("spoil", ["body", "x-amz-date", "host", "authorization", "another"])
async def test_a_request_that_was_changed_on_its_way_is_not_taken(spoil):
    async with front() as here:
        assert (await here.both(signed()))[0]
        good = signed(X_Another="1")
        fields = dict(good.headers)
        body = b'{"a": 2}' if spoil == "body" else b'{"a": 1}'
        if spoil == "x-amz-date":
            fields[spoil] = fields[spoil][:-2] + ("1Z" if fields[spoil][-2] != "1" else "2Z")
        elif spoil == "host":
            fields[spoil] = "localhost:7979"
        elif spoil == "authorization":
            fields[spoil] = fields[spoil][:-1] + ("0" if fields[spoil][-1] != "0" else "1")
        elif spoil == "another":
            fields["x-another"] = "2"
        taken, _, theirs = await here.both(Request("POST", PATH, list(fields.items()), Whole(body), "127.0.0.1:9"))
        assert not taken
        assert theirs[0] == 403


async def test_a_key_that_is_gone_or_may_only_read_opens_nothing_any_more():
    async with front() as here:
        assert (await here.both(signed()))[0]
        here.change(replace(here.key, read_only=True))
        taken, _, theirs = await here.both(signed())
        assert (taken, theirs[0]) == (False, 403)
        here.change(here.key)
        assert (await here.both(signed()))[0]
        here.change(gone=[here.key])
        taken, _, theirs = await here.both(signed())
        assert (taken, theirs[0]) == (False, 403)


async def test_what_was_deployed_meanwhile_runs():
    async with front() as here:
        assert (await here.both(signed()))[0]
        here.change(replace(here.target.revision, id="r2"), replace(here.target.function, latest="r2"))
        assert (await here.both(signed()))[0]
        assert [report.revision for report in here.notebook.reports] == [here.target.revision.id] * 2 + ["r2"] * 2
        here.change(gone=[here.target.function])
        taken, _, theirs = await here.both(signed())
        assert (taken, theirs[0]) == (False, 404)


async def test_what_an_older_catalog_says_counts_once_that_is_back():
    async with front() as here:
        here.index.number = 1000
        assert (await here.both(signed()))[0]
        gone = delete(here.key)
        here.index.apply(Change(7, gone.key, None))  # the desk came back with a catalog restored from a copy
        taken, _, theirs = await here.both(signed())
        assert (taken, theirs[0]) == (False, 403)


async def test_a_door_that_is_not_open_yet_or_to_others_leads_nowhere():
    async with front() as here:
        fields = [(name, "elsewhere" if name == "host" else value) for name, value in signed().headers]
        taken, _, theirs = await here.both(Request("POST", PATH, fields, Whole(b'{"a": 1}'), "127.0.0.1:9"))
        assert (taken, theirs[0]) == (False, 403)
        here.door._ready.clear()
        assert not here.prompt(signed(), lambda _: None)


async def test_a_long_host_or_a_long_head_is_not_remembered():
    async with front() as here:
        for name, value in (("host", "a" * 2000 + ".localhost"), ("authorization", "b" * 2000)):
            fields = {**dict(signed().headers), name: value}
            taken, _, theirs = await here.both(Request("POST", PATH, list(fields.items()), Whole(b'{"a": 1}'), "127.0.0.1:9"))
            assert (taken, theirs[0] >= 400, here.prompt._known) == (False, True, {})


async def test_many_kinds_of_requests_are_not_all_remembered():
    async with front() as here:
        for number in range(5000):
            here.prompt._known[(str(number), "", "")] = None
        assert (await here.both(signed()))[0]
        assert len(here.prompt._known) < 4097
