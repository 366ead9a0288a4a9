"""The guest as user code sees it, on every Python that this machine has."""

import asyncio
import json

import pytest

from ondol.testing.pool import a_target
from ondol.runtime import Call, Ending, Launch
from ondol.runtimes.choice import Choice
from ondol.runtimes.forked import ForkedPython
from ondol.runtimes.interpreters import Interpreters
from ondol.testing.sandboxes import LocalSandboxes

FOUND = Interpreters.discover()

SOURCE = """
import json, logging, os, sys

def handler(event, context):
    if event == "fail":
        raise ValueError("on %d.%d" % sys.version_info[:2])
    print("printed")
    logging.getLogger().error("logged\\ntwice")
    os.write(2, b"written\\n")
    return {
        "path": sys.path, "argv": sys.argv, "cwd": os.getcwd(), "id": context.aws_request_id, "exit": callable(exit),
        "streams": [sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors, sys.stdout.isatty()],
    }
"""


def run(tree, events, runtime=None, handler="app.handler", variables=None):
    return asyncio.run(_run(tree, events, runtime or FOUND.all()[-1].name, handler, variables or {}))


async def _run(tree, events, runtime, handler, variables):
    sandboxes = LocalSandboxes()
    lines = []
    shell = await sandboxes.prepare("1")
    await sandboxes.attach(shell, tree=str(tree), memory_bytes=0, tmp_mib=0)
    launch = Launch(guest="aws", handler=handler, runtime=runtime, variables=variables, memory_mib=128, timeout_s=3)
    worker = await ForkedPython(sandboxes, Choice(FOUND)).start(
        shell, a_target().revision, launch, lambda text, at_ms: lines.append(text)
    )
    try:
        meta = b'{"id": "r1", "deadline_ms": 0}'
        return [
            await worker.call(Call(meta=meta, payload=json.dumps(event).encode()), lambda text, at_ms: lines.append(text))
            for event in events
        ], lines
    finally:
        worker.close()
        await sandboxes.close()


@pytest.mark.parametrize("runtime", [interpreter.name for interpreter in FOUND.all()])
def test_a_function_runs_on_every_version(tmp_path, runtime):
    (tmp_path / "app.py").write_text(SOURCE)
    (answer, failure), lines = run(tmp_path, [1, "fail"], runtime)
    seen = json.loads(answer.body)
    assert seen["id"] == "r1"
    assert seen["cwd"] == str(tmp_path)
    assert seen["exit"] is True
    assert seen["streams"] == ["utf-8", "surrogateescape", "backslashreplace", False]
    assert lines[0] == "printed\n"
    assert lines[1].endswith("\tr1\tlogged\ntwice\n")
    assert lines[2] == "written\n"
    error = json.loads(failure.body)
    assert failure.ending is Ending.ERROR
    assert error["errorMessage"] == f"on {runtime[6:]}"
    assert error["stackTrace"] == [
        f'  File "{tmp_path}/app.py", line 6, in handler\n    raise ValueError("on %d.%d" % sys.version_info[:2])\n'
    ]


@pytest.mark.parametrize("runtime", [interpreter.name for interpreter in FOUND.all()])
def test_the_path_is_the_functions_then_layers_then_the_library_then_ours(tmp_path, runtime):
    (tmp_path / "app.py").write_text(SOURCE)
    (answer,), _ = run(tmp_path, [1], runtime)
    path = json.loads(answer.body)["path"]
    assert path[:3] == [str(tmp_path), f"/opt/python/lib/{runtime}/site-packages", "/opt/python"]
    assert [p for p in path[3:-1] if not p.startswith(FOUND.get(runtime).prefix)] == []
    assert path[-2].endswith("lib-dynload")


def test_a_function_may_name_its_module_like_one_of_the_library(tmp_path):
    (tmp_path / "random.py").write_text("def handler(event, context): return __file__")
    (tmp_path / "socket.py").write_text("mine = True")
    (tmp_path / "uses.py").write_text("import socket\ndef handler(event, context): return socket.mine")
    (answer,), _ = run(tmp_path, [1], handler="random.handler")
    assert json.loads(answer.body) == str(tmp_path / "random.py")
    (answer,), _ = run(tmp_path, [1], handler="uses.handler")
    assert answer.body == b"true"


def test_a_module_imported_ahead_gives_way_to_the_functions_own(tmp_path, monkeypatch):
    import sys

    from ondol_guest.guest import forget_shadowed

    (tmp_path / "textile.py").write_text("")
    (tmp_path / "json.py").write_text("")
    ahead = {"textile": object(), "textile.sub": object(), "json": sys.modules["json"]}
    for name, module in ahead.items():
        monkeypatch.setitem(sys.modules, name, module)
    forget_shadowed(str(tmp_path))
    assert [name for name in ahead if name in sys.modules] == ["json"]


def test_the_time_zone_is_the_functions(tmp_path):
    (tmp_path / "app.py").write_text("import time\ndef handler(event, context): return time.tzname[0]")
    (answer,), _ = run(tmp_path, [1], variables={"TZ": "XYZ-9"})
    assert answer.body == b'"XYZ"'


def test_text_beyond_ascii_is_escaped_up_to_3_11_and_as_it_is_from_3_12_on(tmp_path):
    (tmp_path / "app.py").write_text("def handler(event, context): return '온돌'")
    bodies = [
        run(tmp_path, [1], variables={"AWS_EXECUTION_ENV": f"AWS_Lambda_python3.{minor}"})[0][0].body for minor in (11, 12)
    ]
    assert bodies == [b'"\\uc628\\ub3cc"', '"온돌"'.encode()]


def test_a_result_that_is_no_utf8_is_a_marshal_error(tmp_path):
    (tmp_path / "app.py").write_text("def handler(event, context): return '\\ud800'")
    (answer, again), _ = run(tmp_path, [1, 1], variables={"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"})
    assert json.loads(answer.body)["errorType"] == json.loads(again.body)["errorType"] == "Runtime.MarshalError"


def test_records_from_many_threads_stay_whole(tmp_path):
    (tmp_path / "app.py").write_text(
        """
import logging, threading
def work(n):
    for _ in range(50):
        logging.getLogger().error(str(n) * 9000)
        print(str(n) * 9000)
def handler(event, context):
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    )
    _, lines = run(tmp_path, [1])
    records = [line.rstrip("\n").split("\t")[3] for line in lines if line.startswith("[ERROR]")]
    assert sorted(records) == sorted(str(n) * 9000 for n in range(4) for _ in range(50))
