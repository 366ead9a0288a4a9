"""As test_oracle_nodejs.py, for the contract of Node.js 24 and later: only what a handler returns counts, and files are imported.

It needs a Node.js 24 among the interpreters that are found here (`npm install node@24` somewhere on PATH will do).
"""

from __future__ import annotations

import shutil

import pytest

from ondol.runtimes.interpreters import Interpreters
from tests.wire.aws import test_oracle_nodejs as oracle
from tests.wire.aws.test_oracle_nodejs import FORMS, TABLE, both, compact, event, log_of, package, runs, same, tree

__all__ = ["runs", "tree"]  # fixtures

RELEASE = "aws-lambda-ric@4.0.2"
NODE = next((found for found in reversed(Interpreters.discover().all("nodejs")) if found.major >= 24), None)

pytestmark = [
    pytest.mark.skipif(NODE is None or shutil.which("npm") is None, reason="there is no Node.js 24 or later here, or no npm"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module", autouse=True)
def recent():
    """The other module's runs, with this client and this Node.js."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "NODE", NODE)
        patch.setattr(oracle, "RUN", oracle.FUNCTIONS / "run24.mjs")
        yield


@pytest.fixture(scope="session")
def ric(tmp_path_factory):
    """The package's own module, at the place where the other module's texts have it."""
    place = package(RELEASE, tmp_path_factory.mktemp("ric"))
    (place / "dist").mkdir()
    shutil.move(place / "index.mjs", place / "dist")
    return place / "dist/index.mjs"


@pytest.mark.parametrize(("kind", "case"), TABLE)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_promises_answer_and_log_are_the_same(runs, kind, case, form):
    more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"} if form == "json" else {}
    ours, theirs = runs("promise", tuple(TABLE), **more)
    at = TABLE.index((kind, case))
    assert (ours.answers[at][0], same(ours.answers[at][1])) == (theirs.answers[at][0], same(theirs.answers[at][1]))
    assert log_of(ours.logs[at]) == log_of(theirs.logs[at])


@pytest.mark.parametrize("handler", FORMS)
def test_a_handler_is_found_or_not_in_the_same_way(ric, tree, handler):
    ours, theirs = both(ric, tree, handler, [event({"kind": "echo"})])
    assert [(error, same(body)) for error, body in ours.answers] == [(error, same(body)) for error, body in theirs.answers]
    kind = lambda found: {name: same(compact(found[name])) for name in ("errorType",)} if found else None  # noqa: E731
    assert kind(ours.load_error) == kind(theirs.load_error)
    # What Node.js itself prints of an error that ends it is not compared: theirs dies of the one that it reported.
    records = lambda seen: [text.partition("\t{")[0] for text, timed in log_of(seen.load_log) if timed]  # noqa: E731
    assert records(ours) == records(theirs)
