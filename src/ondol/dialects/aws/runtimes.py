"""The runtime ids that Lambda takes, those it no longer takes, and what it says to the rest.

Whether this machine has the interpreter is no matter here: a function is accepted, and its invocation says what is missing.
"""

from __future__ import annotations

from typing import Final

from ondol.dialects.aws.refusals import invalid

#: In the order in which the service's own text lists them.
LISTED: Final = (
    "nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x", "nodejs22.x", "java25",
    "python3.10", "python3.11", "java21", "ruby3.3", "ruby3.4", "ruby3.2", "python3.8", "python3.9", "java17", "nodejs16.x",
    "dotnet10", "dotnet8", "java11", "dotnet6", "nodejs18.x", "provided.al2", "java8.al2",
)  # fmt: skip
#: Named by the service's model since that text was recorded.
NEWER: Final = ("nodejs26.x", "python3.15", "ruby4.0", "java8.al2023", "java11.al2023", "java17.al2023")
#: Once valid; refused for creating and updating, with a text of its own.
RETIRED: Final = frozenset(
    {
        "nodejs",
        "nodejs4.3",
        "nodejs4.3-edge",
        "nodejs6.10",
        "nodejs8.10",
        "nodejs10.x",
        "nodejs12.x",
        "nodejs14.x",
        "java8",
        "python2.7",
        "python3.6",
        "python3.7",
        "dotnetcore1.0",
        "dotnetcore2.0",
        "dotnetcore2.1",
        "dotnetcore3.1",
        "go1.x",
        "ruby2.5",
        "ruby2.7",
        "provided",
    }
)
ACCEPTED: Final = frozenset((*LISTED, *NEWER))

_SNAPSHOTTED: Final = (
    "java11",
    "java17",
    "java21",
    "java25",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3.15",
    "dotnet8",
    "dotnet10",
)


def check(runtime: str) -> None:
    """Raise what the service answers to a runtime it does not take."""
    if runtime in ACCEPTED:
        return
    if runtime in RETIRED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions."
        )
    raise invalid(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(LISTED)}] or be a valid ARN"
    )


def check_snapshots(runtime: str) -> None:
    """Raise for a runtime that SnapStart does not go with."""
    if runtime not in _SNAPSHOTTED:
        raise invalid(f"{runtime} is not supported for SnapStart enabled functions.")
