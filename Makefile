# Two commands: `make demo` and `make test`. Both set up .venv first if needed, and can be run again at will.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One process a core, one thread each: the models are tiny, and a second thread only waits.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile
DEMO ?= detox-demo

.PHONY: help demo test quick evidence lint setup clean
help:
	@echo "make demo      install into $(VENV) if needed, then pretrain, detoxify and compare on the miniature"
	@echo "make test      install if needed, then lint, types and the whole test suite (under 15 minutes)"
	@echo "make quick     the quick tier of the tests (under 3 minutes)"
	@echo "make evidence  kills, grids, all families x all methods (long; not in CI)"

setup: $(STAMP)
$(STAMP): pyproject.toml constraints.txt
	@echo "== installing detox and what it needs into $(VENV) (once; takes minutes)"
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"detox needs Python 3.11 or newer, and {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)
	@echo "== detox demo: results go to $(DEMO)/"
	@$(BIN)/detox demo --output_dir $(DEMO)

lint: $(STAMP)
	@echo "== ruff, mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: lint
	@echo "== the test suite"
	@$(PYTEST) -m "not evidence"

quick: $(STAMP)
	@echo "== the quick tier"
	@$(PYTEST) -m "not slow and not evidence"

evidence: $(STAMP)
	@echo "== evidence: kills, grids, all families x all methods"
	@$(BIN)/python -m pytest -m evidence

clean:
	rm -rf $(VENV) build *.egg-info
