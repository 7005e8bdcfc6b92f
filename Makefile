# `make demo` and `make test` need python3, pip, make and a C compiler's runtime; nothing else.
PYTHON ?= python3
VENV := .venv
# Which PyTorch documentation and benchmarks use; a bare `torch` may bring gigabytes of CUDA.
TORCH ?= ==2.13.0
BIN := $(VENV)/bin
# Tests run in as many processes as there are cores, up to four.
SPREAD := --numprocesses=auto --maxprocesses=4

.PHONY: demo test test-slow test-minimal docs bench clean help

help:
	@echo "make demo          classify a simulated sky and look at the result"
	@echo "make test          style, types and tests"
	@echo "make test-slow     the tests that take minutes"
	@echo "make test-minimal  the tests without any optional package"
	@echo "make docs          the documentation, in build/docs, with all examples run"
	@echo "make bench         what predict adds to the model's own time, beside other packages"
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
	$(BIN)/python -m pytest $(SPREAD) -m "not slow"

test-slow: $(VENV)/develop
	$(BIN)/python -m pytest $(SPREAD) -m slow

test-minimal: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)-minimal
	$(VENV)-minimal/bin/python -m pip install --quiet --editable . pytest pytest-xdist hypothesis
	env -u MORPHEUS_CORE_REQUIRE_ALL $(VENV)-minimal/bin/python -m pytest $(SPREAD) -m "not slow"

$(VENV)-docs/run: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --editable ".[docs]" "torch$(TORCH)"
	@touch $@

docs: $(VENV)-docs/run
	rm -rf docs/gallery
	$(VENV)-docs/bin/sphinx-build --fail-on-warning --keep-going --fresh-env docs build/docs
	@echo "See build/docs/index.html."

# An index of builds for processors makes the first of these smaller.
$(VENV)-bench/run: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --editable ".[fast,plot,dask]" \
		"torch$(TORCH)" monai==1.6.1 pytorch-toolbelt==0.8.0 tiler==0.6.0
	@touch $@

# It has our import name, so it needs an environment of its own.
$(VENV)-0.1/run:
	$(PYTHON) -m venv $(VENV)-0.1
	$(VENV)-0.1/bin/python -m pip install --quiet morpheus-core==0.1.13
	@touch $@

bench: $(VENV)-bench/run $(VENV)-0.1/run
	mkdir -p build
	$(VENV)-bench/bin/python benchmarks/overhead.py
	$(VENV)-bench/bin/python benchmarks/rivals.py $(VENV)-0.1/bin/python build/rivals.png
	$(VENV)-bench/bin/python benchmarks/overlap.py
	$(VENV)-bench/bin/python benchmarks/scaling.py
	$(VENV)-bench/bin/python benchmarks/planning.py
	$(VENV)-bench/bin/python benchmarks/workers.py
	$(VENV)-bench/bin/python benchmarks/catalog.py
	$(VENV)-bench/bin/python benchmarks/cost_model.py

clean:
	rm -rf $(VENV) $(VENV)-minimal $(VENV)-docs $(VENV)-bench $(VENV)-0.1 build docs/gallery docs/api/help \
		docs/_drawings .pytest_cache .mypy_cache .ruff_cache .hypothesis
