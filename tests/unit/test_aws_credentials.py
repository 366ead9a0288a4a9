"""Temporary credentials: what was minted is known again, what was not is nobody's."""

import base64
import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.dialects.aws.credentials import TOKEN_CHARS_MAX, Credentials
from ondol.dialects.aws.service import ServiceError
from ondol.model.principals import Kind, Principal

MASTER = bytes(range(32))
WHO = Principal(
    kind=Kind.FUNCTION,
    account="123456789012",
    region="eu-west-1",
    name="f1",
    role="arn:aws:iam::123456789012:role/r",
    environment="e" * 32,
)


def minted(credentials=None, **options):
    return (credentials or Credentials(MASTER)).mint(WHO, now_s=1000.0, **options)


def test_another_process_with_the_same_master_knows_the_session():
    session = minted()
    assert session.access_key_id.startswith("ASIA")
    assert len(session.access_key_id) == 20
    assert Credentials(MASTER).lookup(session.access_key_id, session.session_token, now_s=2000.0) == (session.secret, WHO)


def test_another_master_knows_nothing():
    session = minted()
    assert Credentials(b"x" * 32).lookup(session.access_key_id, session.session_token, now_s=2000.0) is None


def test_a_session_expires():
    session = minted(lifetime_s=60)
    credentials = Credentials(MASTER)
    assert credentials.lookup(session.access_key_id, session.session_token, now_s=1059.9)
    with pytest.raises(ServiceError) as caught:
        credentials.lookup(session.access_key_id, session.session_token, now_s=1060.0)
    assert (caught.value.code, caught.value.status) == ("ExpiredTokenException", 403)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_bit_of_a_token_can_be_changed(at, change):
    session = minted()
    raw = bytearray(base64.b64decode(session.session_token))
    raw[at % len(raw)] ^= change
    forged = base64.b64encode(bytes(raw)).decode()
    assert Credentials(MASTER).lookup(session.access_key_id, forged, now_s=2000.0) is None


@given(st.text(max_size=200), st.text(max_size=50))
def test_garbage_is_nobodys_session(token, access_key_id):
    assert Credentials(MASTER).lookup(access_key_id, token, now_s=2000.0) is None


def test_a_token_belongs_to_its_own_key_id():
    credentials = Credentials(MASTER)
    one, other = minted(credentials), minted(credentials, lifetime_s=99)
    assert credentials.lookup(other.access_key_id, one.session_token, now_s=1001.0) is None


def test_a_session_keeps_what_it_was_narrowed_to():
    who = replace(WHO, kind=Kind.SESSION, scope=('{"Version": "2012-10-17"}', "arn:aws:iam::aws:policy/x"))
    session = Credentials(MASTER).mint(who, now_s=1000.0)
    assert Credentials(MASTER).lookup(session.access_key_id, session.session_token, now_s=2000.0) == (session.secret, who)


def test_a_token_of_a_release_that_knew_no_scopes_is_known():
    credentials = Credentials(MASTER)
    words = msgspec.msgpack.encode([1, "session", WHO.account, WHO.region, "me", WHO.role, 5000, "", "AROA"])
    token = base64.b64encode(words + credentials._derived(b"seal", words)).decode()
    found = credentials.lookup(credentials._access_key_id(words), token, now_s=2000.0)
    assert found[1] == Principal(
        kind=Kind.SESSION, account=WHO.account, region=WHO.region, name="me", role=WHO.role, role_id="AROA"
    )


def test_a_token_that_would_be_too_long_is_not_made():
    dense = base64.b64encode(random.Random(7).randbytes(TOKEN_CHARS_MAX)).decode()
    with pytest.raises(ServiceError, match=f"may have {TOKEN_CHARS_MAX}") as caught:
        Credentials(MASTER).mint(replace(WHO, scope=(dense,)), now_s=1000.0)
    assert caught.value.code == "PackedPolicyTooLargeException"


def test_secrets_do_not_show_in_a_repr():
    session = minted()
    assert session.secret not in repr(session)
    assert session.session_token not in repr(session)


def test_a_short_master_is_refused():
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Credentials(b"short")
