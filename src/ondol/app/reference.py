"""What is written into docs/reference of a dialect: the page of each is made of that dialect's own data."""

from __future__ import annotations

from ondol.dialects.aws import coverage, coverage_errors
from ondol.dialects.aws.actions import ACTIONS


def aws_lambda_page(generated: str) -> str:
    """docs/reference/aws-lambda.md. `generated`: the line that says that it is."""
    rows = coverage.table(ACTIONS["lambda"])
    counts = {state: sum(row[1] == state for row in rows) for state in ("done", "kept", "refused")}
    out = [
        "# AWS Lambda's operations, one by one",
        "",
        generated,
        f"{len(rows)} operations: {counts['done']} done; {counts['kept']} kept: stored, checked and shown again, with",
        f"nothing acting on them; {counts['refused']} refused: answered `NotImplemented` (501) with the reason, changing",
        "nothing. What they do in general is in [aws.md](aws.md).",
        "",
        "| operation | | what to know |",
        "| --- | --- | --- |",
    ]
    out += [f"| {operation} | {state} | {note} |" for operation, state, note in rows]
    return "\n".join([*out, *_errors(), ""])


def _errors() -> list[str]:
    """Which documented errors are answered, and why the others are not."""
    out = [
        "",
        "## Errors",
        "",
        f"Of the errors that the model documents, each operation answers these and `{coverage_errors.EVERYWHERE}` (the node's",
        "own failure); besides them `ValidationException` and `AccessDeniedException`, as AWS does. Names stand without",
        "`Exception`.",
        "",
        "| operation | answers |",
        "| --- | --- |",
        *(f"| {operation} | {each.replace(' ', ', ')} |" for operation, each in coverage_errors.ANSWERED.items()),
        "",
        "Never answered, by those that document them and do not stand above:",
        "",
        "| error | by | why |",
        "| --- | --- | --- |",
    ]
    return [*out, *(f"| {error} | {operation} | {why} |" for error, operation, why in coverage_errors.rows())]
