"""A function for AWS Lambda, as one would write it there."""

import os
import platform

CALLS = 0


def lambda_handler(event, context):
    global CALLS
    CALLS += 1
    name = event.get("name", "world")
    print(f"greeting {name}, call {CALLS} of this environment")
    return {
        "greeting": f"Hello, {name}, the floor is warm.",
        "calls": CALLS,
        "python": platform.python_version(),
        "memory_mb": int(context.memory_limit_in_mb),
        "pid": os.getpid(),
    }
