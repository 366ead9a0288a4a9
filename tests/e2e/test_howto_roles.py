"""docs/howto/roles-urls-and-layers.md does what it says, with the aws command unmodified."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ondol.testing.node import running_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "roles-urls-and-layers.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
AWS = Path(sys.executable).with_name("aws")


@pytest.mark.skipif(not AWS.exists() or not shutil.which("curl"), reason="the aws command or curl is not installed")
def test_the_pages_commands_run_from_top_to_bottom(possible, tmp_path):
    with running_node() as node:
        given = node.client("sts")._request_signer._credentials.get_frozen_credentials()
        environment = {
            **os.environ,
            "PATH": f"{AWS.parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": node.endpoint,
            "AWS_ACCESS_KEY_ID": given.access_key,
            "AWS_SECRET_ACCESS_KEY": given.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
        }
        said = []
        for number, block in enumerate(BLOCKS):
            ran = subprocess.run(
                ["sh", "-ec", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
            )
            assert ran.returncode == 0, f"block {number}: {ran.stderr}"
            said.append(ran.stdout)
    called, asked, layered = (text.strip().splitlines() for text in said)
    assert called[-1].endswith('{"did": "this"}')
    assert '"routeKey":"$default"' in asked[-1]
    assert layered[-1].endswith('"hello"')
