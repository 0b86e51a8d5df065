# make quickstart   install, simulate, learn, score and draw (a few minutes)
# make test         all tests
# make lint         style and types
# make clean        remove all that make made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DATA := data/quickstart
RUN := runs/quickstart

# Threads that wait must not spin: where programs share the cores, spinning makes all of them several times slower.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

.DELETE_ON_ERROR:
.PHONY: quickstart test lint clean

quickstart: $(INSTALLED)
	rm -rf $(DATA) $(RUN)
	$(BIN)/bouncegrad simulate springs --train 500 --valid 100 --test 200 --out $(DATA)
	$(BIN)/bouncegrad fit --data $(DATA) --out $(RUN)
	$(BIN)/bouncegrad evaluate --model $(RUN) --data $(DATA) --picture $(RUN)/scenes.png
	@echo "The figures are in $(RUN)/summary.json, three of the scenes are drawn in $(RUN)/scenes.png"

# The tests' arrays are tiny: a second thread makes them twice as slow, a second process twice as fast.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Nothing that is not pinned is fetched: the package itself is built by the pinned hatchling, without its dependencies.
$(INSTALLED): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("bouncegrad needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) $(DATA) $(RUN) .pytest_cache .ruff_cache .hypothesis dist build
	find bouncegrad tests benchmarks experiments -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
