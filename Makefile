# make run: the main job on bundled real input; make test: lint and tests; make docs: the user guide.
# All set up .venv first.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed_docs
BIN := $(VENV)/bin
SCENARIO ?= scenarios/postgres_pgbench.yaml
PYTEST_ARGS ?= -n 2
SPHINX := $(BIN)/python -m sphinx -c docs -W -n --keep-going -q

.PHONY: run test lint bench docs linkcheck notebooks setup clean

run: $(STAMP)
	$(BIN)/python run_sim.py compare $(SCENARIO)

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .

bench: $(STAMP)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/replay.py
	$(BIN)/python benchmarks/streaming.py

docs: $(DOCS_STAMP)
	$(SPHINX) -b html . docs/_build/html
	@echo "the guide: docs/_build/html/index.html"

linkcheck: $(DOCS_STAMP)
	$(SPHINX) -b linkcheck . docs/_build/linkcheck

notebooks: $(STAMP)
	$(BIN)/python docs/make_notebooks.py

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: memhier needs Python 3.11 or newer; \
	$(PYTHON) is " + sys.version.split()[0] + " (make PYTHON=python3.12 picks another)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist results docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks .numba_boundscheck
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
