"""Functions on a capacity provider of a whole node, by its client of AWS Lambda's API."""

from __future__ import annotations

from typing import Any, Final

PROVIDER: Final = "pool"
_ROLE: Final = "arn:aws:iam::000000000000:role/any"


def provide(client: Any) -> None:
    """The provider that `attach` attaches to."""
    client.create_capacity_provider(
        CapacityProviderName=PROVIDER,
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        PermissionsConfig={"CapacityProviderOperatorRoleArn": _ROLE},
    )


def attach(client: Any, name: str, code: bytes, *, calls: int, **settings: Any) -> str:
    """A function that runs so many calls in one environment at a time, published without a number and active; its name."""
    arn = client.get_capacity_provider(CapacityProviderName=PROVIDER)["CapacityProvider"]["CapacityProviderArn"]
    config = {"CapacityProviderArn": arn, "PerExecutionEnvironmentMaxConcurrency": calls}
    client.create_function(
        FunctionName=name,
        Role=_ROLE,
        Code={"ZipFile": code},
        Publish=True,
        PublishTo="LATEST_PUBLISHED",
        CapacityProviderConfig={"LambdaManagedInstancesCapacityProviderConfig": config},
        **settings,
    )
    client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="$LATEST.PUBLISHED", WaiterConfig={"Delay": 0.05, "MaxAttempts": 1200}
    )
    return name
