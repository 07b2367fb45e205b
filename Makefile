# Two commands matter: `make demo` and `make test`. Both make .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_MODELS ?= zoo:squeezenet zoo:googlenet

.PHONY: demo test lint types conformance zoo-table scaling optimality bench reproduce clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[torch,dev]"
	@touch $@

demo: $(VENV)/.installed  ## compile, run, compare and measure two models on both backends
	$(BIN)/ramiel-ir demo $(DEMO_MODELS) --workers 2 -o demo

test: $(VENV)/.installed  ## every test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/.installed  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed  ## types of the core and the passes
	$(BIN)/mypy

conformance: $(VENV)/.installed  ## ONNX's own test suite on every engine; writes docs/conformance.md
	$(BIN)/python -m tests.conformance

zoo-table: $(VENV)/.installed  ## docs/zoo.md from its template
	$(BIN)/python docs/zoo_table.py

scaling: $(VENV)/.installed  ## docs/scaling.md from its template
	$(BIN)/python docs/scaling.py

optimality: $(VENV)/.installed  ## docs/optimality.md from its template
	$(BIN)/python docs/optimality.py

reproduce: $(VENV)/.installed  ## docs/reproduction.md from its template
	$(BIN)/python docs/reproduction.py

bench: $(VENV)/.installed  ## docs/benchmarks.md from its template
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[torch,dev,bench]"
	$(BIN)/python docs/benchmarks.py

clean:
	rm -rf $(VENV) demo build *.egg-info
