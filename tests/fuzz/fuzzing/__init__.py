"""Fuzz targets: one module per parser that reads what strangers send.

Each has `one(data)`, which takes any bytes and raises AssertionError, or anything else, when the parser did what it may not;
`SEEDS`, inputs to begin with; and `TOKENS`, pieces worth putting in. `run.py` runs them for minutes, coverage-guided where atheris
is installed; `test_targets.py` for seconds, with every test run.
"""

TARGETS = ("http1", "sigv4", "codec", "archives", "wire", "keeper", "hot", "extensions")
