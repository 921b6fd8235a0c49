# make quickstart: a trained model and a picture of its samples.   make test: the whole suite.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/digits
OUT ?= samples/digits

.PHONY: quickstart test clean

quickstart: $(VENV)/installed
	$(VENV)/bin/python train.py --config configs/digits.py --workdir $(RUN)
	$(VENV)/bin/python sample.py --checkpoint $(RUN) --seeds 0-9 --class all --out $(OUT)
	@echo
	@echo "Digits that the model drew: $(OUT)/grid.png"

test: $(VENV)/installed-for-tests
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/bin/python setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .jax_cache
