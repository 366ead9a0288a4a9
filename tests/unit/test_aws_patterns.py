"""CloudWatch Logs' filter patterns: what matches, what does not, and what is no pattern."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws.pattern_regex import Regex
from ondol.dialects.aws.patterns import BadPattern, parse


def matching(pattern, *messages):
    made = parse(pattern)
    return [message for message in messages if made.matches(message)]


# Terms -------------------------------------------------------------------------------------------------------------------

LINES = ("[ERROR 400] BAD REQUEST", "[ERROR 401] UNAUTHORIZED REQUEST", "[WARN] slow", "[INFO] fine, 100% of it")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", [0, 1, 2, 3]),
        ("ERROR", [0, 1]),
        ("error", []),
        ("ERROR REQUEST", [0, 1]),
        ("ERROR 400", [0]),
        ('"BAD REQUEST"', [0]),
        ('"[ERROR 401]"', [1]),
        ("?ERROR ?WARN", [0, 1, 2]),
        ("ERROR -400", [1]),
        ('ERROR -"BAD REQUEST"', [1]),
        ("-ERROR", [2, 3]),
        ("%40[01]%", [0, 1]),
        ("%^.WARN|fine%", [2, 3]),
        ("ERROR -%40[1-9]%", [0]),
        ("?%40[1-9]% ?slow", [1, 2]),
        ("100%", [3]),
        ('"fine, 100%"', [3]),
        ("REQ", [0, 1]),
    ],
)
def test_terms(pattern, found):
    assert matching(pattern, *LINES) == [LINES[n] for n in found]


def test_a_choice_beside_terms_that_must_be_there_is_passed_over_as_the_service_does():
    assert matching("?WARN ERROR", *LINES) == list(LINES[:2])


def test_terms_that_must_be_there_are_named_for_the_journal():
    assert parse('ERROR "BAD REQUEST" -x').needed == ("ERROR", "BAD REQUEST")
    assert parse("?a ?b").needed == ()


# JSON --------------------------------------------------------------------------------------------------------------------

EVENT = {
    "eventType": "UpdateTrail",
    "sourceIPAddress": "111.111.111.111",
    "arrayKey": ["value", "another value"],
    "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "SomeObject": None,
    "ThisFlag": True,
    "ThatFlag": False,
    "errorCode": 400,
    "latency": 0.25,
    "text number": "12",
    "a.b": {"c-d": "e/f"},
    "quoted": 'say "hi"',
}


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.eventType = "UpdateTrail" }',
        "{ $.eventType = UpdateTrail }",
        "{$.eventType=Update*}",
        '{ $.eventType = "*Tr*l" }',
        "{ $.eventType != Other }",
        "{ $.eventType = %Upd[a-z]+% }",
        "{ $.eventType != %^Trail% }",
        "{ $.sourceIPAddress != 123.123.* }",
        "{ $.sourceIPAddress = 111.111.* }",
        '{ $.arrayKey[0] = "value" }',
        '{ $.arrayKey[*] = "another value" }',
        "{ $.objectList[1].id = 2 }",
        "{ $.objectList[*].id = 2 }",
        "{ $.objectList[*].name = b }",
        "{ $.SomeObject IS NULL }",
        "{ $.SomeObject = null }",
        "{ $.SomeOtherObject NOT EXISTS }",
        "{ $.ThisFlag IS TRUE }",
        "{ $.ThatFlag is false }",
        "{ $.ThisFlag = true }",
        "{ $.errorCode = 400 }",
        "{ $.errorCode = 4e2 }",
        "{ $.errorCode = 4* }",
        "{ $.errorCode >= 400 && $.errorCode <= 400 }",
        "{ $.errorCode > 399.9 }",
        "{ $.latency < 1 }",
        "{ $.latency = .25 }",
        '{ $["text number"] = 12 }',
        '{ $["a.b"]["c-d"] = "e/f" }',
        '{ $.quoted = "say \\"hi\\"" }',
        "{ $.errorCode = 401 || $.errorCode = 400 }",
        '{ $.eventType = "x*" && $.latency > 3 || $.m NOT EXISTS }',
        "{ ($.eventType = UpdateTrail) && (($.errorCode = 1) || ($.nothing NOT EXISTS)) }",
        "{ $.* = UpdateTrail }",
    ],
)
def test_conditions_on_json_that_hold(pattern):
    made = parse(pattern)
    assert made.matches(json.dumps(EVENT))
    assert all(needed in json.dumps(EVENT) for needed in made.needed)
    assert not made.matches("no JSON at all")


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.eventType = "updatetrail" }',
        "{ $.eventType = Trail }",
        "{ $.eventType = %^Trail% }",
        "{ $.eventType > 3 }",
        "{ $.missing != x }",
        "{ $.missing < 3 }",
        "{ $.missing IS NULL }",
        "{ $.SomeObject NOT EXISTS }",
        "{ $.ThisFlag IS FALSE }",
        "{ $.ThisFlag = 1 }",
        "{ $.errorCode IS TRUE }",
        "{ $.errorCode = 40 }",
        "{ $.arrayKey = value }",
        "{ $.arrayKey[2] = value }",
        "{ $.eventType[0] = U }",
        "{ $.eventType = UpdateTrail && $.errorCode = 1 }",
        "{ ($.eventType = x || $.errorCode = 400) && $.latency > 1 }",
    ],
)
def test_conditions_on_json_that_do_not_hold(pattern):
    assert not parse(pattern).matches(json.dumps(EVENT))


def test_and_binds_more_tightly_than_or():
    first = parse("{ $.a = 1 || $.b = 1 && $.c = 1 }")
    assert first.matches('{"a": 1}')
    assert not first.matches('{"b": 1}')
    assert not parse("{ ($.a = 1 || $.b = 1) && $.c = 1 }").matches('{"a": 1}')


def test_what_json_patterns_need_is_named_where_it_is_sure():
    assert parse('{ $.level = "ERROR" && $.n > 3 }').needed == ("level", "ERROR", "n")
    assert parse('{ $.level = "ERROR" || $.n > 3 }').needed == ()
    assert parse("{ $.level != ERROR }").needed == ("level",)
    assert parse("{ $.level NOT EXISTS }").needed == ()
    assert parse("{ $.status = 4* }").needed == ("status",)
    assert parse('{ $.path = "a/ü*done" }').needed == ("path", "done")


def test_an_array_is_looked_into_from_its_top():
    assert parse("{ $[0].a = 1 }").matches('[{"a": 1}]')


# Columns -----------------------------------------------------------------------------------------------------------------

ACCESS = (
    '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534',
    '127.0.0.1 Prod frank [10/Oct/2000:13:35:22 -0700] "GET /about-us.html HTTP/1.0" 500 5324',
    '10.1.1.7 - frank [10/Oct/2000:13:50:35 -0700] "GET /news.htm HTTP/1.0" 200 9999',
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("[ip, user, username, timestamp, request, status_code, bytes]", [0, 1, 2]),
        ("[ip, user, username, timestamp, request, status_code = 4*, bytes]", [0]),
        ("[ip, user, username, timestamp, request, status_code = 4* || status_code = 5*, bytes]", [0, 1]),
        ("[ip, user, username, timestamp, request, status_code, bytes > 1534]", [1, 2]),
        ("[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]", [0]),
        ('[ip, user, username, timestamp, request = "GET /news*", ...]', [2]),
        ("[ip, user = Prod, ...]", [0, 1]),
        ("[ip = 127.0.0.1 && ip != 10.*, ...]", [0, 1]),
        (r"[ip=%127\.0\.0\.[1-9]%, ...]", [0, 1]),
        ("[..., status = 500, bytes]", [1]),
        ("[ip, ..., bytes >= 9999]", [2]),
        ("[..., bytes < 2e3]", [0]),
        ("[ip, user]", []),
        ("[..., (status = 404 || status = 500) && status != 5*, bytes]", [0]),
        ("[ip != 127.0.0.1, ...]", [2]),
        ("[ip, user != %P%, ...]", [2]),
    ],
)
def test_columns(pattern, found):
    assert matching(pattern, *ACCESS) == [ACCESS[n] for n in found]
    made = parse(pattern)
    assert all(needed in ACCESS[n] for needed in made.needed for n in found)


def test_columns_and_selectors_say_what_they_stand_for():
    assert parse("[ip, user, ..., status = 4*, bytes]").extract(ACCESS[0]) == {
        "$ip": "127.0.0.1", "$user": "Prod", "$status": "404", "$bytes": "1534",
    }  # fmt: skip
    assert parse("{ $.a.b = 1 && $.c[0] = x* && $.d NOT EXISTS }").extract('{"a": {"b": 1}, "c": ["xy"]}') == {
        "$.a.b": "1",
        "$.c[0]": "xy",
    }


# Refused -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ('"open', "quotation mark"),
        ('a"b', "space between terms"),
        ("%a(b)%", "not supported"),
        ("%[a%", "class is missing"),
        ("%a{3,2}%", "wrong way round"),
        ("%*a%", "nothing to repeat"),
        ("%a$b%", "only end"),
        ("%a{501}%", "longer than 200"),
        ("- x", "no term"),
        (" ".join("abcdefghij" * 11), "100 terms"),
        ("x" * 1025, "1024"),
        ("{", r"'\$' was expected"),
        ("{ $.a }", "operator"),
        ("{ $.a = }", "value"),
        ("{ $.a = 1", "'}' was expected"),
        ("{ $.a = 1 } x", "nothing was expected"),
        ("{ $.a > x }", "number"),
        ("{ $. = 1 }", "name"),
        ("{ $ = 1 }", "name or an index"),
        ("{ $.a[x] = 1 }", "index"),
        ("{ $.a IS MAYBE }", "NULL, TRUE or FALSE"),
        ("{ $.a NOT NULL }", "EXISTS"),
        ("{ ($.a = 1 }", r"'\)' was expected"),
        ("{" + "(" * 30 + "$.a = 1" + ")" * 30 + "}", "20 deep"),
        ("{ $.a = %a% || $.a = %b% || $.a = %c% }", "2 regular expressions"),
        ("{ " + " || ".join(["$.a=1"] * 101) + " }", "100 conditions"),
        ("{ $" + ".a" * 21 + " = 1 }", "20 steps"),
        ("[a, b", "']' was expected"),
        ("[a, ..., ...]", "once"),
        ("[a = 1 || b = 2]", "'a', was expected"),
        ("[a =]", "value"),
        ("[a > x]", "number"),
        ("[a] b", "nothing was expected"),
        ("[" + ",".join("a" * 201) + "]", "columns|conditions"),
    ],
)
def test_what_is_no_pattern_is_refused_with_a_reason(pattern, why):
    with pytest.raises(BadPattern, match=why):
        parse(pattern)


# Regular expressions -----------------------------------------------------------------------------------------------------

_CHAR = st.sampled_from("ab1_ ")
_ATOM = st.one_of(
    _CHAR,
    st.sampled_from(
        [".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\.", r"\x61", "[ab]", "[^a]", "[a-c1]", r"[\d_]", r"[^\w]"]
    ),
)
_ITEM = st.builds("{}{}".format, _ATOM, st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,}", "{0,2}", "{0}"]))
_BRANCH = st.builds(
    "{}{}{}".format, st.sampled_from(["", "^"]), st.lists(_ITEM, max_size=5).map("".join), st.sampled_from(["", "$"])
)


@given(branches=st.lists(_BRANCH, min_size=1, max_size=3), text=st.text("ab1_. \n-é", max_size=12))
def test_an_expression_finds_what_pythons_finds(branches, text):
    expression = "|".join(branches)
    if expression:
        assert Regex(expression).search(text) == bool(re.search(expression, text, re.ASCII))


@pytest.mark.parametrize(
    ("expression", "needed"),
    [
        ("order 12[0-9]+ done", ("order 12", " done")),
        (r"^10\.0\.0\.\d$", ("10.0.0.",)),
        ("ab?c*d{2}e", ("a", "e")),
        ("a|b", ()),
        (".*", ()),
    ],
)
def test_what_an_expression_needs_is_named_for_the_journal(expression, needed):
    assert Regex(expression).needed == needed
    assert parse(f"%{expression}%").needed == needed


@given(branch=_BRANCH, text=st.text("ab1_. ", max_size=12))
def test_every_text_that_an_expression_matches_has_what_it_needs(branch, text):
    if branch and Regex(branch).search(text):
        assert all(needed in text for needed in Regex(branch).needed)


def test_no_expression_is_slow_on_any_text():
    # Python's own engine would not come back from the first.
    assert not Regex("a*a*a*a*a*a*b").search("a" * 200_000)
    assert Regex("[ab]*a[ab]{151}c").search("ab" * 500 + "c")


@given(st.text("ab$.[]{}()=!<>&|%\"\\*?-, \n1'NOTEXISTULLué", max_size=60))
def test_any_text_is_a_pattern_or_refused(text):
    for begin in ("", "{ $.a", "[a", "%", "{"):
        try:
            made = parse(begin + text)
        except BadPattern:
            continue
        for message in ("", "a b", '{"a": 1}', '{"a": {"1": "b"}}', "a" * 50, "[1, 2]"):
            made.matches(message)
            made.extract(message)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("abEx é/", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.dictionaries(st.sampled_from("abc"), _JSON),
    name=st.sampled_from(["a", "b.a", "c[0]", "a.*", "[0]"]),
    test=st.sampled_from(
        ["= x*", "= *a*", '= "ab"', "!= b", "= 1", "> 0", "<= 2.5", "IS NULL", "IS TRUE", "NOT EXISTS", "= %a%"]
    ),
)
def test_every_match_contains_what_the_pattern_says_it_needs(document, name, test):
    made = parse(f"{{ $.{name} {test} }}" if name[0] != "[" else f"{{ ${name} {test} }}")
    message = json.dumps(document)
    if made.matches(message):
        assert all(needed in message for needed in made.needed)
