# optical_jax: `make demo` shows it working, `make test` tests it. Both start from a bare clone.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/tiny
BIN := $(VENV)/bin
READY := $(VENV)/.ready

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
	@echo "make demo    environment, then the smallest whole run: train, evaluate, look"
	@echo "make test    environment, then all tests that need no PyTorch"
	@echo "make check   format, lint, types and the quick tests: before every commit"
	@echo "make clean   remove the environment and what the demo made"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/python train.py --config configs/tiny.py --run $(RUN)
	$(BIN)/python eval.py --run $(RUN) --collection configs/tiny/collection --lang sw

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
