# make run — a node, with a function in it, in one step. make help lists the rest.
# Recipes quote every path: the project may lie in a directory with spaces in its name.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PY := $(BIN)/python3
JOBS ?= 2
SEEDS ?= 200000
KILLS ?= 60
ASYNC_KILLS ?= 200
EVENTS ?= 50000
ROUNDS ?= 5
ENVIRONMENTS ?= 10000
MINUTES ?= 2
DEV := .[dev,oracle]

# The first Python that is new enough.
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

# Stamps say for which directory and which dependencies the environment was made: a moved or copied one is made anew.
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
WANTED := $(shell pwd; cat pyproject.toml hatch_build.py src/ondol/_hot.c | cksum)
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(WANTED))
.PHONY: $(INSTALLED)
endif
ifneq ($(shell cat $(INSTALLED_DEV) 2>/dev/null),$(WANTED))
.PHONY: $(INSTALLED_DEV)
endif

# What is missing is said in one line, before anything is done: $(error) adds none of make's own.
define install
	$(if $(PYTHON),,$(error Ondol needs Python 3.11 or newer, and there is none: apt install python3))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo missing),$(error this Python cannot make virtual environments: apt install python3-venv))
	@[ ! -e .venv ] || [ "$$(cat .venv/.made-in 2>/dev/null || pwd)" = "$$(pwd)" ] || rm -rf .venv
	@[ -x $(PY) ] && $(PY) -c 'import pip' 2>/dev/null || { echo "making .venv with $(PYTHON) …"; rm -rf .venv; $(PYTHON) -m venv .venv; }
	@pwd > .venv/.made-in
	@echo "installing $(1) …"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input --editable '$(1)'
	@$(PY) -m compileall -q src  # the node's unprivileged processes could not keep what they compile
endef

$(INSTALLED):
	$(call install,.)
	@echo '$(WANTED)' > $@

$(INSTALLED_DEV):
	$(call install,$(DEV))
	@echo '$(WANTED)' > $(INSTALLED)
	@echo '$(WANTED)' > $@

.PHONY: help run test test-v2 check format docs bench bench-check fuzz soak clean

help: ## show this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: $(INSTALLED) ## start a node, deploy and call the hello example, serve until Ctrl-C
	@exec $(PY) -m ondol.cli.main tour examples/hello

test: $(INSTALLED_DEV) ## run every test, format and types among them (at most 25 minutes on two cores)
	@$(PY) -m pytest -q -n $(JOBS) --dist loadgroup

test-v2: $(INSTALLED_DEV) ## the tests of isolation in a QEMU guest with control groups version 2 only, as root and as an ordinary user (Debian, root)
	@$(PY) tests/v2/run.py $(if $(TESTS),--tests '$(TESTS)')

check: $(INSTALLED_DEV) ## the fast part: what needs neither node nor sandbox (at most 2 minutes)
	@$(PY) -m pytest -q -n $(JOBS) -m 'not e2e and not sandbox'

format: $(INSTALLED_DEV) ## format and mend what can be mended
	@$(PY) -m ruff check --fix --quiet . ; $(PY) -m ruff format .

docs: $(INSTALLED) ## write the generated pages of docs/reference
	@$(PY) -m ondol.cli.reference docs/reference

bench: $(INSTALLED_DEV) ## measure, and write bench/RESULTS.md
	@$(PY) -m bench

bench-check: $(INSTALLED_DEV) ## fail when a call costs 25 % more CPU than bench/RESULTS.md says
	@$(PY) -m bench --check

fuzz: $(INSTALLED_DEV) ## each parser that reads strangers' bytes, for MINUTES; guided by coverage where atheris is to be had
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input atheris || echo "no atheris for this Python: by mutation alone"
	@$(PY) tests/fuzz/run.py --minutes $(MINUTES)

soak: $(INSTALLED_DEV) ## the long campaigns: SEEDS of the simulator, KILLS, ASYNC_KILLS during EVENTS, ENVIRONMENTS, fuzz, attacks, test-v2, then all else ROUNDS times
	@ONDOL_SIM_SEEDS=$(SEEDS) $(PY) -m pytest -q -n $(JOBS) --timeout 0 tests/sim
	@ONDOL_SOAK_KILLS=$(KILLS) ONDOL_SOAK_ASYNC_KILLS=$(ASYNC_KILLS) ONDOL_SOAK_EVENTS=$(EVENTS) ONDOL_SOAK_ENVIRONMENTS=$(ENVIRONMENTS) \
		$(PY) -m pytest -q -rP --timeout 0 tests/soak/test_*.py
	@$(MAKE) --no-print-directory fuzz
	@mkdir -p .cache && rm -f .cache/attacks.jsonl && ONDOL_ATTACK_RESULTS=$$(pwd)/.cache/attacks.jsonl $(PY) -m pytest -q tests/e2e/attacks
	@$(PY) tests/v2/run.py
	@for round in $$(seq $(ROUNDS)); do $(PY) -m pytest -q -n $(JOBS) --dist loadgroup || exit 1; done

clean: ## remove the environment and caches; data (.ondol) stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
