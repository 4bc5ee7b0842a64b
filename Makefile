# crore: `make run` shows two plans, `make test` checks the project, `make drills` checks it for longer.
# Each makes what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out

.PHONY: run test drills lint clean

run: $(VENV)/.run
	@mkdir -p $(OUT)
	@echo "== How Llama-3-405B trains on 16,384 H100s =="
	$(BIN)/crore plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 15.6T -o $(OUT)/llama3_405b.plan.json
	@echo
	@echo "== What ten million GPUs would do with the first mission =="
	$(BIN)/crore plan ten_million -o $(OUT)/ten_million.plan.json
	@echo
	@echo "Wrote $(OUT)/llama3_405b.plan.json and $(OUT)/ten_million.plan.json. Next: docs/guide/first-plan.md"

test: lint
	$(BIN)/pytest

drills: $(VENV)/.test
	$(BIN)/pytest -m drill

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OUT) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A stamp per set of packages: pip runs again only when pyproject.toml changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "crore needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.run
