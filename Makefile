# `make run` carries out the study, `make html` makes pages of it, `make app` serves its panels, `make test` checks the
# code. Each installs what it needs into .venv: little for the study itself, more for the tests.
PYTHON ?= python3
BIN := .venv/bin
JUPYTER := $(BIN)/python -m jupyter

.PHONY: env run html app test soak lab bench clean

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

env: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[notebooks,app,venues]'
	touch $@

.venv/tested: .venv/installed
	$(INSTALL) '.[notebooks,dev]'
	touch $@

# Every notebook, top to bottom; executed copies in data/executed, figures and tables in figures.
run: env
	$(BIN)/python -m mmer_core.workbook run

# The executed notebooks as pages to read or to mail: data/html/index.html.
html: env
	$(BIN)/python -m mmer_core.workbook html

# The panels of the notebooks, without code, in a browser of this machine.
app: env
	$(BIN)/python -m mmer_core.workbook app

test: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# A study of 40 runs, killed 50 times, and the faults that take long; about 10 minutes.
soak: .venv/tested
	$(BIN)/python -m pytest -m slow tests/test_soak.py tests/test_faults.py tests/test_cluster.py

# How fast the networks train, beside the textbook network; under 8 minutes, and it wants an idle machine.
bench: .venv/tested
	$(BIN)/python tests/bench.py

lab: env
	$(JUPYTER) lab --ip=127.0.0.1 notebooks

# The demo's store, its runs, what was written for a paper, and compiled kernels; other corpora and their ledgers stay.
clean:
	rm -rf mmer_core/kernels/__pycache__ data/demo data/runs/demo data/executed data/html data/app $(addprefix figures/*.,pdf svg png tex md csv txt bib html json)
