"""What AWS's operations are called in the core's words."""

from __future__ import annotations

import botocore.session
import pytest

from ondol.core.permit import READS
from ondol.dialects.aws.actions import ACTIONS, action_of
from ondol.dialects.aws.control import control_plane
from ondol.dialects.aws.iam import Iam
from ondol.dialects.aws.logs import Logs
from ondol.dialects.aws.monitoring import Monitoring
from ondol.dialects.aws.sts import Sts
from ondol.testing.desk import desk

#: Anybody may ask who they are.
ASKS_NOTHING = {"GetCallerIdentity"}


async def test_every_operation_that_is_served_has_an_action(tmp_path):
    async with desk(tmp_path) as made:
        served = {
            "lambda": control_plane(made.deployments, spool=tmp_path, code_url=lambda code, told: "", grants=None),
            "logs": Logs(None).operations,
            "monitoring": Monitoring(None, None).operations,
            "sts": Sts(made.index, None, None, None).operations,
            "iam": Iam(made.deployments.items, None).operations(),
        }
        assert set(served) == set(ACTIONS)
        for service, operations in served.items():
            assert set(operations) - ASKS_NOTHING <= set(ACTIONS[service]), "closed to read-only keys until it is named"


@pytest.mark.parametrize(
    ("service", "model"), [("lambda", "lambda"), ("logs", "logs"), ("sts", "sts"), ("monitoring", "cloudwatch"), ("iam", "iam")]
)
def test_what_is_named_is_an_operation_of_the_service(service, model):
    assert set(ACTIONS[service]) <= set(botocore.session.Session().get_service_model(model).operation_names)


def test_only_what_looks_by_its_name_is_a_look():
    for operations in ACTIONS.values():
        for operation, action in operations.items():
            looks = operation.startswith(("Get", "List", "Describe", "Filter")) or operation in (
                "StartLiveTail",
                "TestMetricFilter",
            )
            session = action == "session:create"
            assert (action in READS) == (looks and not session), operation


def test_what_is_not_named_is_nobodys_but_the_owners():
    assert action_of("lambda", "NewOperation") == "lambda:NewOperation"
    assert action_of("new", "ListThings") not in READS
