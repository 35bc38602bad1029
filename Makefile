# Two commands: `make run` carries out the study, `make test` checks the code. Both install what they need into .venv.
PYTHON ?= python3
BIN := .venv/bin
JUPYTER := $(BIN)/python -m jupyter

.PHONY: env run test lab bench clean

env: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebooks,dev]'
	touch $@

# Every notebook, top to bottom; executed copies in data/executed, figures and tables in figures.
run: env
	$(JUPYTER) nbconvert --to notebook --execute --output-dir data/executed notebooks/*.ipynb

test: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# How fast the networks train, beside the textbook network; under 8 minutes, and it wants an idle machine.
bench: env
	$(BIN)/python tests/bench.py

lab: env
	$(JUPYTER) lab --ip=127.0.0.1 notebooks

# The demo's store, its runs, what was written for a paper, and compiled kernels; other corpora and their ledgers stay.
clean:
	rm -rf mmer_core/kernels/__pycache__ data/demo data/runs/demo data/executed $(addprefix figures/*.,pdf svg png tex md csv txt bib html json)
