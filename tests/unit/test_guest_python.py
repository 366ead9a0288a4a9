"""The guest as user code sees it, on every Python that this machine has."""

import asyncio
import json
import os

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


TRACED = """
import os, subprocess, sys

NAME = "_X_AMZN_TRACE_ID"
SHOW = "import os; print(os.environ.get('%s'), end='')" % NAME
put = []
os_putenv, os.putenv = os.putenv, lambda *given: (put.append(given), os_putenv(*given))

def forked(path):
    child = os.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-c", SHOW.replace(", end=''", ", end='', file=open(%r, 'w')" % path)])
    os.waitpid(child, 0)
    return open(path).read()

def handler(event, context):
    if event == "count":
        return len(put)
    if event == "start":
        path = os.path.join(os.environ["OUT"], "seen")
        os.system("printf %s \\"$" + NAME + "\\" > " + path)
        return [
            os.environ.get(NAME), subprocess.check_output([sys.executable, "-c", SHOW]).decode(), open(path).read(), forked(path)
        ]
    if event == "own":
        os.environ[NAME] = "own"
        return subprocess.check_output([sys.executable, "-c", SHOW]).decode()
    return os.environ.get(NAME)
"""


def run(tree, events, runtime=None, handler="app.handler", variables=None, traces=()):
    return asyncio.run(_run(tree, events, runtime or FOUND.all()[-1].name, handler, variables or {}, traces))


async def _run(tree, events, runtime, handler, variables, traces):
    sandboxes = LocalSandboxes()
    lines = []
    shell = await sandboxes.prepare("1")
    await sandboxes.attach(shell, tree=str(tree), memory_bytes=0, tmp_mib=0)
    launch = Launch(guest="aws", handler=handler, runtime=runtime, variables=variables, memory_mib=128, timeout_s=3)
    worker = await ForkedPython(sandboxes, Choice(FOUND)).start(
        shell, a_target().revision, launch, lambda text, at_ms: lines.append(text)
    )
    try:
        metas = [b'{"id": "r1", "deadline_ms": 0}'] * len(events)
        if traces:
            metas = [json.dumps({"id": "r1", "deadline_ms": 0, "trace": trace}).encode() for trace in traces]
        return [
            await worker.call(Call(meta=meta, payload=json.dumps(event).encode()), lambda text, at_ms: lines.append(text))
            for event, meta in zip(events, metas, strict=True)
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


@pytest.mark.parametrize("runtime", [interpreter.name for interpreter in FOUND.all()])
def test_a_handler_and_all_that_it_starts_find_the_calls_trace(tmp_path, runtime):
    (tmp_path / "app.py").write_text(TRACED)
    events = ["show", "start", "show", "start", "own", "show"]
    traces = ["Root=1", "Root=2", None, None, "Root=3", "Root=4"]
    variables = {"OUT": str(tmp_path), "PATH": os.environ["PATH"]}
    answers, _ = run(tmp_path, events, runtime, variables=variables, traces=traces)
    shown = [json.loads(answer.body) for answer in answers]
    assert shown == ["Root=1", ["Root=2"] * 4, None, [None, "None", "", "None"], "own", "Root=4"]


def test_calls_leave_nothing_in_the_environment_of_the_process(tmp_path):
    """The C library keeps each value of a variable for ever: memory of the function's."""
    (tmp_path / "app.py").write_text(TRACED)
    traces = [f"Root={number}" for number in range(50)]
    answers, _ = run(tmp_path, ["show"] * 49 + ["count"], traces=traces)
    assert [json.loads(answer.body) for answer in answers] == [*traces[:49], 0]


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
