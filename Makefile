# Everything runs in one virtual environment that the first target makes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint lint-links docs bench chaos mutants
setup: $(STAMP)

$(STAMP): pyproject.toml infra/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	@echo "installing PyTorch, Ray, MLflow and others; this takes some minutes"
	$(BIN)/pip install -c infra/constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/intertitle demo

# In two processes, each with a Ray of its own; whole files, in the order of tests/conftest.py.
test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: setup lint-links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.lint $(BIN)/lint-imports
	$(BIN)/python -m tests.language

# The folders under the name that they are installed by, for tools that look for packages in folders.
lint-links:
	mkdir -p .lint/intertitle
	cd .lint/intertitle && ln -sfn ../../jobs/api/* ../../pipeline ../../training ../../jobs .

# The site, into docs/_build/html; a warning is an error.
docs: setup
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html

bench: setup
	$(BIN)/pytest -m bench -s tests/benchmarks

chaos: setup
	$(BIN)/pytest -m chaos

# Whether the tests notice wrong lines. Another sample: make mutants OPTIONS="--seed 2 --sample 30"
mutants: setup
	$(BIN)/python tests/mutants/run.py $(OPTIONS)
