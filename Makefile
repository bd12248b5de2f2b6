# optical_jax: `make demo` shows it working, `make test` tests it. Both start from a bare clone.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo
BENCH_READY := $(VENV)/.ready-bench
# On the devices there are. make before 4.4 takes no `unexport` for one target alone.
BENCH := env -u JAX_PLATFORMS $(BIN)/python -m optical_jax bench

# Real data and models, where they stand beside the checkout; tests that need them are skipped elsewhere.
ifneq ($(wildcard ../shared/data),)
export OPTICAL_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/models),)
export OPTICAL_MODELS ?= $(abspath ../shared/models)
endif
export JAX_PLATFORMS ?= cpu

ifneq ($(and $(wildcard $(OPTICAL_DATA)/bitext/tico19/sw.train.tsv.gz),$(wildcard $(OPTICAL_MODELS)/all-MiniLM-L6-v2)),)
BENCH_DATA := --bitext $(OPTICAL_DATA)/bitext/tico19/sw.train.tsv.gz --teacher $(OPTICAL_MODELS)/all-MiniLM-L6-v2
endif
ifneq ($(and $(MODEL),$(wildcard $(OPTICAL_DATA)/retrieval/flores_sib)),)
BENCH_COLLECTION := --collection $(OPTICAL_DATA)/retrieval/flores_sib --model $(MODEL)
endif

.PHONY: help demo test check bench fuzz format clean

help:
	@echo "make demo    environment, then train, evaluate and look, in a few minutes, on any laptop"
	@echo "make test    environment, then all tests that need no PyTorch"
	@echo "make bench   environment with PyTorch, then training timed beside it, encoding and search alone;"
	@echo "             with MODEL=FOLDER (an export) a collection is encoded and searched beside it too"
	@echo "make check   format, lint, import contracts, types and the quick tests: before every commit"
	@echo "make fuzz    some thousands of damaged files for every reader, in some minutes"
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
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not parity"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not parity and not slow"

$(BENCH_READY): $(READY)
	@echo "installing PyTorch for the comparison"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[parity]'
	@touch $@

# The Swahili bitext, the real encoder and a collection where they stand beside the checkout; drawn pairs and weights
# elsewhere.
bench: $(BENCH_READY)
	$(BENCH) --preset mini --peer torch $(BENCH_DATA) --json bench.json
	$(BENCH) --preset mini --peer torch --teacher-cache --parts step $(BENCH_DATA) \
		--json bench-cache.json
ifneq ($(BENCH_COLLECTION),)
	$(BENCH) --parts --peer torch $(BENCH_COLLECTION) --json bench-collection.json
endif
	@$(if $(BENCH_DATA),,echo "pairs and weights were drawn: OPTICAL_DATA=FOLDER and OPTICAL_MODELS=FOLDER add real ones")
	@$(if $(MODEL),,echo "no collection was encoded beside PyTorch: MODEL=FOLDER of an export adds it")
	@$(if $(and $(MODEL),$(if $(BENCH_COLLECTION),,none)),echo "no collection was there to encode: OPTICAL_DATA=FOLDER adds it")

# 50,000 and more over all readers.
fuzz: $(READY)
	OPTICAL_FUZZ=360 $(BIN)/python -m pytest -n 2 tests/test_fuzz.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(RUN) bench.json bench-cache.json bench-collection.json
