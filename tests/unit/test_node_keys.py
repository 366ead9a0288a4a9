"""The node's secrets: made once, kept, readable by their owner only."""

from __future__ import annotations

import json
import re

import pytest

from ondol.model.errors import Unavailable
from ondol.node.keys import SECRET_BYTES, master_secret, owner_key


def test_the_owners_key_is_made_once(tmp_path):
    first = owner_key(tmp_path, "123456789012", 5.0)
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", first.id)
    assert len(first.secret) == 40
    assert owner_key(tmp_path, "999999999999", 6.0) == first


def test_two_nodes_have_two_keys(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (owner_key(tmp_path / name, "1", 0.0) for name in ("a", "b"))
    assert one.id != two.id
    assert one.secret != two.secret
    assert master_secret(tmp_path / "a") != master_secret(tmp_path / "b")


def test_secrets_are_their_owners_only(tmp_path):
    owner_key(tmp_path, "1", 0.0)
    master_secret(tmp_path)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "credentials.json": 0o600,
        "secret": 0o600,
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"access_key_id": "x"}', "null", "7"])
def test_a_file_that_is_no_key_is_left_alone_and_said_so(tmp_path, text):
    (tmp_path / "credentials.json").write_text(text)
    with pytest.raises(Unavailable, match="move it away"):
        owner_key(tmp_path, "1", 0.0)
    assert (tmp_path / "credentials.json").read_text() == text


@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key", "account"])
@pytest.mark.parametrize("value", [None, "", 7])
def test_a_key_with_an_empty_or_wrong_part_is_no_key(tmp_path, field, value):
    """An empty secret would let everybody in who knows the id."""
    owner_key(tmp_path, "1", 0.0)
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(Unavailable, match="is not a key that Ondol wrote"):
        owner_key(tmp_path, "1", 0.0)


def test_the_master_secret_is_made_once(tmp_path):
    first = master_secret(tmp_path)
    assert len(first) == SECRET_BYTES
    assert master_secret(tmp_path) == first


@pytest.mark.parametrize("size", [0, 1, SECRET_BYTES - 1, SECRET_BYTES + 1])
def test_a_master_secret_of_another_length_is_refused(tmp_path, size):
    (tmp_path / "secret").write_bytes(b"x" * size)
    with pytest.raises(Unavailable, match=f"has {size} bytes"):
        master_secret(tmp_path)
