"""Request ids: random UUIDs, each given out once, in parent and child."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from ondol.dialects.aws.ids import POOL_BYTES, digits, new_request_id

pytestmark = pytest.mark.usefixtures("both_ways")


def test_a_request_id_is_a_random_uuid_and_no_other():
    made = [new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 4, uuid.RFC_4122)


def test_digits_come_in_any_number_up_to_the_pools():
    for count in (1, 7, 48, 2 * POOL_BYTES, 31):
        text = digits(count)
        assert len(text) == count
        assert set(text) <= set("0123456789abcdef")


FORKS = """
import os, sys
from ondol.dialects.aws.ids import digits
digits(1)
if os.fork() == 0:
    os.write(1, digits(64).encode() + b"\\n")
    os._exit(0)
os.wait()
os.write(1, digits(64).encode())
"""


def test_a_forked_child_draws_its_own():
    ran = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    child, parent = ran.stdout.split()
    assert len(child) == len(parent) == 64
    assert child != parent
