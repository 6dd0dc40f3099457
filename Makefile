# `make demo` and `make test` work from a bare clone; both keep one .venv and repair it when it is half made.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stamp is named by what the environment is made from: another pyproject.toml makes another stamp.
FINGERPRINT := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-$(FINGERPRINT)
# Test processes; each takes up to 2 GiB and one core.
WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo check test lint types layers fast unit install format docs bench bench-trust bench-full models clean

demo: $(STAMP)
	$(BIN)/hespotex demo --out demo

# After each edit: everything but the tests that are marked slow, side by side.
check: $(STAMP)
	$(MAKE) --no-print-directory -j 4 lint types layers fast

# Before a commit reaches others, and in continuous integration.
test: $(STAMP)
	$(MAKE) --no-print-directory -j 4 lint types layers unit

install: $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

# One thread a process: two workers with two threads each would wait for each other. What is compiled is kept, also where
# the shell says otherwise: each worker would compile all tests anew.
PYTEST = PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

fast: $(STAMP)
	$(PYTEST) -m "not slow"

unit: $(STAMP)
	$(PYTEST)

# Versions of all cases that take a quarter of an hour, and the stated sizes; both go on where they were interrupted.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

# False discoveries, coverage of intervals, out-of-distribution check, nuclei, damaged files.
bench-trust: $(STAMP)
	$(BIN)/python -m benchmarks.run --only coverage region_coverage out_of_distribution coarse_copies simulated_truth levels nuclei damaged_files

bench-full: $(STAMP)
	$(BIN)/python -m benchmarks.run --full

# The model zoo, as far as the data are here: DATA is a folder with her2st/ and mob/ (docs/models.md).
DATA ?= ../shared/data
models: $(STAMP)
	@for recipe in models/*.toml; do \
	  name=$$(basename $$recipe .toml); manifest=$(DATA)/$$(sed -n 's/^# manifest: //p' $$recipe); \
	  if [ ! -f "$$manifest" ]; then echo "$$name: left out, its data are not in $(DATA)"; continue; fi; \
	  $(BIN)/hespotex models build $$recipe --manifest $$manifest --out zoo/$$name.hespotex || exit 1; \
	done

# The site: notebooks are run, links inside are checked, a warning is an error. Open build/docs/site/index.html.
docs: $(STAMP)
	OMP_NUM_THREADS=2 $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs/site

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# An environment whose installation was interrupted has no stamp: it is made again from nothing.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hespotex needs Python >= 3.11, found %s; try make PYTHON=python3.12" % sys.version.split()[0])'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[dev,docs]'
	touch $@
