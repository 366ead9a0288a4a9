"""Layers on a whole node: what they bring is where functions look for it."""

from __future__ import annotations

import ctypes.util
import io
import json
import os
import zipfile
from pathlib import Path

import pytest


pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LOOKING = """
import ctypes, os, subprocess
import tools, extra
def handler(event, context):
    def writable(path):
        try:
            open(path, "w")
            return True
        except OSError:
            return False
    ran = subprocess.run(["said"], capture_output=True, text=True)
    return {
        "tools": tools.SAID, "extra": extra.SAID, "ran": ran.stdout.strip(), "data": open("/opt/data.txt").read(),
        "loaded": bool(ctypes.CDLL("libbrought.so").adler32) if event else None, "writable": writable("/opt/data.txt"),
    }
"""


def publish(aws, name, files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o755 if path.startswith("bin/") else 0o644) << 16
            archive.writestr(entry, content)
    return aws.publish_layer_version(LayerName=name, Content={"ZipFile": data.getvalue()})["LayerVersionArn"]


def library():
    """A shared library of this machine's that nothing has loaded by this name."""
    found = ctypes.util.find_library("z")
    for folder in ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64"):
        if found and os.path.exists(f"{folder}/{found}"):
            return Path(folder, found).read_bytes()
    return None


def answer(aws, name, event):
    return json.load(aws.invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


def test_what_layers_bring_is_found_in_order_and_cannot_be_written(aws, deploy, name):
    below = {
        "python/tools.py": "SAID = 'below'",
        "python/lib/python3.11/site-packages/extra.py": "SAID = 'site'",
        "bin/said": "#!/bin/sh\necho from a layer\n",
        "data.txt": "below",
    }
    above = {"python/tools.py": "SAID = 'above'", "data.txt": "above"}
    brought = library()
    if brought is not None:
        below["lib/libbrought.so"] = brought
    arns = [publish(aws, f"{name}-{each}", files) for each, files in (("below", below), ("above", above))]
    function = deploy(LOOKING, Layers=arns, Timeout=30)
    assert answer(aws, function, brought is not None) == {
        "tools": "above", "extra": "site", "ran": "from a layer", "data": "above",
        "loaded": True if brought is not None else None, "writable": False,
    }  # fmt: skip
    aws.update_function_configuration(FunctionName=function, Layers=arns[:1])
    aws.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    assert answer(aws, function, False)["tools"] == "below"


def test_a_layers_copy_of_a_package_wins_over_the_nodes(aws, deploy, name):
    arn = publish(aws, name, {"python/boto3/__init__.py": "mine = True\n"})
    function = deploy("import boto3\ndef handler(e, c):\n    return [boto3.mine, boto3.__file__]\n", Layers=[arn])
    assert answer(aws, function, {}) == [True, "/opt/python/boto3/__init__.py"]


def test_a_function_without_layers_sees_none(aws, deploy):
    function = deploy("import os\ndef handler(e, c):\n    return [f for _, _, files in os.walk('/opt') for f in files]\n")
    assert answer(aws, function, {}) == []
