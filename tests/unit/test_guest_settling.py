"""A zygote that has settled shares more of its memory with its children."""

import json
import subprocess
import sys

import pytest

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.sandboxes import SOURCE
from ondol_guest import settling

FOUND = [interpreter for interpreter in Interpreters.discover().all() if interpreter.name != "python3.7"]

#: A zygote's child that rehearses: KiB that are its own alone, beside a sibling that does nothing. With "settle": after that.
CHILD = """
import importlib, json, os, re, signal, sys
sys.path.insert(0, sys.argv[1])
from ondol_guest import zygote
zygote.warm()
from ondol_guest import rehearsal, settling
if "settle" in sys.argv:
    settling.settle()
sibling = os.fork()
if not sibling:
    signal.pause()
reader, writer = os.pipe()
if not os.fork():
    rehearsal.rehearse()
    with open("/proc/self/smaps") as file:
        own = re.findall(r"^Private_(?:Dirty|Clean): +(\\d+) kB", file.read(), re.M)
    os.write(writer, json.dumps(sum(map(int, own))).encode())
    os._exit(0)
print(os.read(reader, 100).decode())
os.kill(sibling, signal.SIGKILL)
"""

#: For how many sizes of objects every place is taken, before and after gaps are filled. For the others there is a new pool.
GAPS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ondol_guest import zygote
zygote.warm()
from ondol_guest import settling
def full():
    return list(settling.free_places(settling.told_of_memory()).values()).count(0)
before = full()
settling.settle()
print(json.dumps([before, full()]))
"""

TOLD = """Small block threshold = 512, in 32 size classes.

class   size   num pools   blocks in use  avail blocks
-----   ----   ---------   -------------  ------------
    0     16           4            3904           172
    2     48         150           50000           100

# arenas allocated total           =                   20
2 arenas * 1048576 bytes/arena     =            2,097,152
"""


def said(program, *arguments, interpreter=sys.executable):
    command = [interpreter, "-I", "-S", "-c", program, SOURCE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_free_places_are_read_from_what_an_interpreter_tells():
    assert settling.free_places(TOLD) == {16: 172, 48: 100}


@pytest.mark.parametrize("path", [interpreter.path for interpreter in FOUND], ids=[each.name for each in FOUND])
def test_most_gaps_are_filled(path):
    before, after = said(GAPS, interpreter=path)
    assert before < 6
    assert after > 12


def test_a_child_has_less_of_its_own():
    plain, settled = said(CHILD), said(CHILD, "settle")
    assert settled < 0.9 * plain
