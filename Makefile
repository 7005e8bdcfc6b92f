# `make demo` and `make test` need python3, pip, make and a C compiler's runtime; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-minimal bench clean help

help:
	@echo "make demo          classify a simulated sky and look at the result"
	@echo "make test          style, types and tests"
	@echo "make test-slow     the tests that take minutes"
	@echo "make test-minimal  the tests without any optional package"
	@echo "make bench         what predict adds to the model's own time"
	@echo "make clean         remove what these made"

$(VENV)/run: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[fast,plot]"
	@touch $@

$(VENV)/develop: $(VENV)/run
	$(BIN)/python -m pip install --quiet --editable ".[fast,plot,test]"
	@touch $@

demo: $(VENV)/run
	$(BIN)/morpheus-core demo --out-dir build/demo --overwrite

test: $(VENV)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/develop
	$(BIN)/python -m pytest -m slow

test-minimal: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)-minimal
	$(VENV)-minimal/bin/python -m pip install --quiet --editable . pytest hypothesis
	env -u MORPHEUS_CORE_REQUIRE_ALL $(VENV)-minimal/bin/python -m pytest -m "not slow"

bench: $(VENV)/run
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/workers.py

clean:
	rm -rf $(VENV) $(VENV)-minimal build .pytest_cache .mypy_cache .ruff_cache .hypothesis
