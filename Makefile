# Each target makes the environment that it needs. Variables:
#   PY=python3.12       the interpreter to use (default: the first that runs, on PATH or among pyenv's)
#   GPU=1               with `make venv`: the CUDA libraries too
#   CORPUS=tones       with `make demo`: the corpus, of those that data/download.py knows
#   PYTEST_ARGS="..."   files or options for pytest instead of the whole suite

SHELL := bash
VERSIONS := 3.11 3.12 3.13 3.10
PYTEST_ARGS ?=
export PY

# What `make demo` trains on, and where everything of it lies.
CORPUS ?= mrt
DEMO_DIR ?= demo

.PHONY: help venv demo test test-slow lint test-oldest test-newest bench bench-venv clean

help:
	@echo "make venv | demo | test | test-slow | lint | test-oldest | test-newest | bench | clean"

venv:
	@.ci/venv .venv "$(VERSIONS)" requirements-dev.txt $(if $(GPU),requirements-gpu.txt)

# The last line that the download prints is the command that trains on what it fetched.
demo: venv
	@mkdir -p $(DEMO_DIR)
	set -o pipefail; .venv/bin/python data/download.py --corpus=$(CORPUS) --data_dir=$(DEMO_DIR) | tee $(DEMO_DIR)/download.log
	.venv/bin/$$(tail -n 1 $(DEMO_DIR)/download.log | sed 's/^ *//') --model_dir=$(DEMO_DIR)/model --clean
	.venv/bin/python deep_speech.py --mode=export --model_dir=$(DEMO_DIR)/model
	.venv/bin/python transcribe.py --model=$(DEMO_DIR)/model/export $$(.ci/first_clips $(DEMO_DIR)/download.log 3)

test: venv
	.venv/bin/python -m pytest $(PYTEST_ARGS)

# Trainings of minutes, which show that something is learned, or that nothing is.
test-slow: venv
	.venv/bin/python -m pytest -m slow $(PYTEST_ARGS)

lint: venv
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy

# The two ends of the TensorFlow range, each with an environment of its own.
test-oldest:
	@.ci/venv .venv-oldest "3.11 3.10" requirements-dev.txt tensorflow==2.15.1 "numpy<2"
	.venv-oldest/bin/python -m pytest $(PYTEST_ARGS)

test-newest:
	@.ci/venv .venv-newest "3.13" requirements-dev.txt "tensorflow==2.21.*"
	.venv-newest/bin/python -m pytest $(PYTEST_ARGS)

# Everything that is claimed to be fast, beside its peers; writes the table of docs/performance.md.
bench: venv bench-venv
	@.ci/bench .venv/bin/python

# What the product is compared with, and needs none of.
bench-venv:
	@.ci/venv .venv-bench "$(VERSIONS)" requirements-bench.txt

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-bench .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
