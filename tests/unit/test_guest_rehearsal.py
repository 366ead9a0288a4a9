"""A child that rehearses its first call is afterwards as one that does not."""

import json
import subprocess

import pytest

from ondol.runtimes.interpreters import Interpreters
from ondol.testing.sandboxes import SOURCE

FOUND = Interpreters.discover()

#: Prints what is left: what a function could see of it, before and after, and what the rehearsed handler answered.
LOOK = """
import json, logging, os, sys
sys.path.insert(0, sys.argv[1])
import ondol_guest.aws, ondol_guest.guest, ondol_guest.rehearsal, site
answers = []
if len(sys.argv) > 2:
    import ondol_guest.rehearsal as rehearsal
    def broken():
        raise OSError("no sockets")
    rehearsal._call_once = broken
else:
    answer = ondol_guest.aws.Guest.answer
    ondol_guest.aws.Guest.answer = lambda *told: answers.append(1) or answer(*told)
def globals_of(module):
    return repr(sorted((n, str(v)) for n, v in list(vars(module).items()) if not n.startswith("__")))
def look():
    return {
        "modules": sorted(sys.modules), "path": sys.path, "argv": sys.argv, "environment": dict(os.environ),
        "cwd": os.getcwd(), "files": sorted(os.listdir("/proc/self/fd")), "handlers": [str(h) for h in logging.root.handlers],
        "level": logging.root.level, "converter": logging.Formatter.converter.__name__, "threads": os.listdir("/proc/self/task"),
        "streams": [sys.stdout is sys.__stdout__, id(sys.stdout), id(sys.stderr)], "package": sorted(vars(ondol_guest)),
        "globals": {name: globals_of(module) for name, module in list(sys.modules.items()) if "ondol" in name},
    }
os.chdir("/")
before = look()
ondol_guest.rehearsal.rehearse()
after = look()
print(json.dumps([before, after, len(answers)]))
"""


@pytest.mark.parametrize("name", [interpreter.name for interpreter in FOUND.all()])
def test_nothing_is_left_of_a_rehearsal(name):
    before, after, answers = looked(name)
    assert answers == 1, "it was not gone through to its end"
    assert after == before


def test_one_that_fails_is_none():
    before, after, _ = looked(FOUND.all()[-1].name, "broken")
    assert after == before


def looked(name, *more):
    command = [FOUND.get(name).path, "-I", "-S", "-c", LOOK, SOURCE, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)
