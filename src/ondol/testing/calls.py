"""Calls of functions on a whole node, by AWS's own client, with the ends of their logs."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

_PLATFORM: Final = re.compile(r"(START|END|REPORT|INIT_START) ?")


class Called:
    """What one call came to."""

    def __init__(self, client: Any, function: str, event: Any = None, **more: Any) -> None:
        """`more`: other parameters of Invoke."""
        response = client.invoke(FunctionName=function, Payload=json.dumps(event), LogType="Tail", **more)
        self.id: str = response["ResponseMetadata"]["RequestId"]
        self.error: str | None = response.get("FunctionError")
        self.payload: bytes = response["Payload"].read()
        #: The end of its log, in which its own id is called ID.
        self.tail = base64.b64decode(response["LogResult"]).decode(errors="replace").replace(self.id, "ID")

    @property
    def answer(self) -> Any:
        return json.loads(self.payload)

    @property
    def lines(self) -> list[str]:
        """What the function wrote, without the platform's lines."""
        return [line for line in self.tail.splitlines() if line and not _PLATFORM.match(line)]
