# make quickstart: a trained model and a picture of its samples.
# make test: the whole suite, with the docstrings' examples.   make check: style, types and its fast part.
# make docs: the site, in build/docs.   make commands: the shell commands of its pages, made small.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/digits
OUT ?= samples/digits
# Compiled modules are kept, whatever the environment says: Python is started many times.
export PYTHONDONTWRITEBYTECODE =
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test check check-style docs commands clean

quickstart: $(VENV)/installed
	$(VENV)/bin/python train.py --config configs/digits.py --workdir $(RUN)
	$(VENV)/bin/python sample.py --checkpoint $(RUN) --seeds 0-9 --class all --out $(OUT)
	@echo
	@echo "Digits that the model drew: $(OUT)/grid.png"

test: $(VENV)/installed-for-work
	$(PYTEST)

check: check-style
	$(PYTEST) -m "not slow and not processes" tests

check-style: $(VENV)/installed-for-work
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/installed-for-work
	rm -rf docs/generated build/docs
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

commands: $(VENV)/installed-for-work
	$(VENV)/bin/python docs/commands.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-for-work: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/installed

clean:
	rm -rf .venv .venv-* build docs/generated *.egg-info .pytest_cache .ruff_cache .mypy_cache .jax_cache
