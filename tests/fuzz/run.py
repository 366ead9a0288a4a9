"""Run fuzz targets for minutes: `python tests/fuzz/run.py [TARGET …] --minutes 2`.

With atheris (`pip install atheris`, for the Pythons that it is built for) guided by coverage; without it, by mutation of the
seeds. What crashes a target is written to FOLDER (.hypothesis/fuzz), and makes the exit status 1: reproduce it with --input FILE.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

from fuzzing import TARGETS
from fuzzing.drawing import mutations

FOLDER = Path(__file__).parents[2] / ".hypothesis" / "fuzz"
INPUT_BYTES_MAX = 4096


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all of {', '.join(TARGETS)} unless named")
    parser.add_argument("--minutes", type=float, default=2.0, help="for each target")
    parser.add_argument("--input", type=Path, help="run one input, found before, and nothing else")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.targets = options.targets or TARGETS
    if not set(options.targets) <= set(TARGETS):
        parser.error(f"the targets are {', '.join(TARGETS)}")
    if options.input:
        importlib.import_module(f"fuzzing.{options.targets[0]}").one(options.input.read_bytes())
    elif options.guided:
        guided(options.targets[0], options.minutes)
    else:
        sys.exit(max(run(name, options.minutes) for name in options.targets))


def run(name, minutes):
    """The exit status."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is None:
        return mutated(name, minutes)
    print(f"{name}: {minutes:g} min, guided by coverage", flush=True)
    command = [sys.executable, __file__, name, "--guided", "--minutes", str(minutes)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = [line for line in (done.stdout + done.stderr).splitlines() if "INFO: " not in line]
    print("\n".join(said[-40:] if done.returncode else [line for line in said if "DONE" in line or "Done" in line]), flush=True)
    return min(done.returncode, 1)


def guided(name, minutes):
    """In a process of its own: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["ondol", "ondol_guest"]):
        target = importlib.import_module(f"fuzzing.{name}")
    corpus = FOLDER / name
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = FOLDER / f"{name}.dict"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in token[:64]) + '"\n' for token in target.TOKENS))
    atheris.Setup(
        [
            sys.argv[0], str(corpus), f"-max_total_time={int(minutes * 60)}", f"-max_len={INPUT_BYTES_MAX}", f"-dict={words}",
            f"-artifact_prefix={FOLDER}/{name}-", "-timeout=30", "-rss_limit_mb=4096",
        ],
        target.one,
    )  # fmt: skip
    atheris.Fuzz()


def mutated(name, minutes):
    """Without coverage: the seeds, changed at random."""
    target = importlib.import_module(f"fuzzing.{name}")
    seed, end_s, count = int(time.time()), time.monotonic() + minutes * 60, 0
    print(f"{name}: {minutes:g} min, by mutation, seed {seed}", flush=True)
    chance = random.Random(seed)
    while time.monotonic() < end_s:
        for data in mutations(target.SEEDS, target.TOKENS, chance, 1000):
            count += 1
            try:
                target.one(data)
            except Exception:
                traceback.print_exc()
                found = FOLDER / f"{name}-crash-{count}"
                found.write_bytes(data)
                print(f"{name}: {found}")
                return 1
            if time.monotonic() > end_s:
                break
    print(f"{name}: {count} inputs, nothing found", flush=True)
    return 0


if __name__ == "__main__":
    main()
