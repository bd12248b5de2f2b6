# optical_jax: `make demo` shows it working, `make test` tests it. Both start from a bare clone.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo

# Real data and models, where they stand beside the checkout; tests that need them are skipped elsewhere.
ifneq ($(wildcard ../shared/data),)
export OPTICAL_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/models),)
export OPTICAL_MODELS ?= $(abspath ../shared/models)
endif
export JAX_PLATFORMS ?= cpu

.PHONY: help demo test check format clean

help:
	@echo "make demo    environment, then train, evaluate and look, in a few minutes, on any laptop"
	@echo "make test    environment, then all tests that need no PyTorch"
	@echo "make check   format, lint, types and the quick tests: before every commit"
	@echo "make clean   remove the environment and what the demo made"

$(READY): pyproject.toml
	@echo "installing into $(VENV), with what the tests need"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,demo]'
	@touch $@

$(DEMO_READY): pyproject.toml
	@echo "installing into $(VENV): about 1 GB, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

demo: $(DEMO_READY)
	@$(BIN)/python -m optical_jax demo --run $(RUN)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not parity"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not parity and not slow"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(RUN)
