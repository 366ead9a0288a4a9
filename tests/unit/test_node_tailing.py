"""Around the logs of functions."""

from __future__ import annotations

import pytest

from ondol.app.shared import CONTRACTS
from ondol.model.functions import Code, Configuration, Revision
from ondol.node.tailing import grouping, leaving


def revision(contract, **annotations):
    configuration = Configuration(contract=contract, runtime="python3.11", handler="app.handler", annotations=annotations)
    code = Code(sha256="0" * 64, zipped_bytes=1, unpacked_bytes=1)
    return Revision(
        id="r", account="1", region="here", function="f", name="hello", code=code, configuration=configuration, created_s=0.0
    )


@pytest.mark.parametrize(
    ("made", "group"),
    [
        (revision("aws"), "/aws/lambda/hello"),
        (revision("aws", aws={"LoggingConfig": {"LogGroup": "/mine"}}), "/mine"),
        (revision("web"), "/ondol/hello"),
        (revision("command"), "/ondol/hello"),
    ],
    ids=["aws", "aws, its own", "web", "command"],
)
def test_the_group_is_the_contracts(made, group):
    assert grouping(CONTRACTS)(made) == group


async def test_a_front_that_leaves_ends_what_is_followed():
    closed = []
    await leaving(lambda: closed.append(True))(None, None)
    assert closed == [True]
