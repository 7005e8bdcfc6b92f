# `make demo` and `make test` need python3, pip, make and a C compiler's runtime; nothing else.
PYTHON ?= python3
VENV := .venv
# Which PyTorch documentation and benchmarks use; a bare `torch` may bring gigabytes of CUDA.
TORCH ?= ==2.13.0
BIN := $(VENV)/bin
# Tests run in as many processes as there are cores, up to four.
SPREAD := --numprocesses=auto --maxprocesses=4

# Tests start hundreds of processes that import the package, so it is compiled to bytecode once.
unexport PYTHONDONTWRITEBYTECODE

# What does the same with optional packages and without, which `make test-minimal` leaves out: how work is
# shared and goes on, the sky, and most of how files are read. What is not listed is run, and
# tests/test_project_files.py refuses what speaks of missing packages.
ALIKE := tests/fits tests/parallel tests/sky tests/storage tests/workspace \
	$(addprefix tests/images/test_,check_sums.py fuzz.py http_images.py masks.py odd_files.py \
	real_files.py stored_numbers.py table_of_inputs.py tiles.py) \
	tests/catalogs/test_catalog_runs.py tests/catalogs/test_catalog_surveys.py \
	tests/test_job_arrays.py tests/test_project_files.py

# What `make docs` does not run.
WITHOUT_GALLERY := $(if $(filter no,$(GALLERY)),-D plot_gallery=0 -D nb_execution_mode=off)
# What `make mutants` changes, how many changes it tries (0: all), and which sample of them.
FOLDER ?= windows
SAMPLE ?= 0
SEED ?= 1

# `make test-clusters` needs root, and `apt-get install kmod glusterfs-server slurm-wlm munge`. The harness
# boots a kernel's NFS server and two clients, see its README. SOURCE is whose morpheus_core is run.
TWO_MACHINES ?= ../shared/tools/two-machines
SOURCE ?= $(CURDIR)
ON_NFS = $(TWO_MACHINES)/run --timeout 1500 $(1) .ci/nfs.sh $(CURDIR)/$(BIN)/python $(SOURCE)
FEW := touching=5 wide=5 same_folder=5 killed=5 away_5=5

.PHONY: demo test test-slow torture test-clusters test-programs test-minimal test-oldest docs wheel mutants bench bench-builds clean help

help:
	@echo "make demo          classify a simulated sky and look at the result"
	@echo "make test          style, types and tests"
	@echo "make test-slow     the tests that take minutes"
	@echo "make test-programs  what programs and packages of others make of our files, and we of theirs"
	@echo "make test-clusters runs on two machines that share a folder by NFS or GlusterFS, and in jobs"
	@echo "                   of Slurm; about an hour"
	@echo "make torture       an hour of random runs, kills, failing calls and damaged files"
	@echo "make test-minimal  without any optional package, the tests of what depends on them"
	@echo "make test-oldest   the tests with the oldest dependencies that pyproject.toml allows"
	@echo "make docs          the documentation, in build/docs, with all examples run;"
	@echo "                   GALLERY=no runs neither the gallery nor the notebook"
	@echo "make wheel         what is handed out, in dist"
	@echo "make mutants       which changes of code no test notices; FOLDER=windows is that of"
	@echo "                   morpheus_core to change, SAMPLE=100 tries so many, drawn by SEED=1"
	@echo "make bench         what predict adds to the model's own time, beside other packages"
	@echo "make bench-builds  the same beside another commit: BEFORE=main~1"
	@echo "make clean         remove what these made"

$(VENV)/run: pyproject.toml setup.py
	@echo "Installing morpheus_core, numba and matplotlib in $(VENV): a minute, 0.6 GB."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[fast,plot]"
	@touch $@

$(VENV)/develop: $(VENV)/run
	@echo "Installing what tests need in $(VENV): one to five minutes, 1 GB, without PyTorch."
	$(BIN)/python -m pip install --quiet --editable ".[fast,plot,test]"
	@touch $@

# Tests of networks skip without it.
$(VENV)/torch: $(VENV)/develop
	@echo "Installing PyTorch in $(VENV): 1 GB or, with CUDA, 5 GB; see Installation."
	$(BIN)/python -m pip install --quiet "torch$(TORCH)"
	@touch $@

demo: $(VENV)/run
	$(BIN)/morpheus-core demo --out-dir build/demo --overwrite

test: $(VENV)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not programs and not torture"

# Most of them wait for processes that they have started.
test-slow: $(VENV)/develop
	$(BIN)/python -m pytest --numprocesses=3 -m slow

test-programs: $(VENV)/develop
	$(BIN)/python -m pip install --quiet --editable ".[programs]"
	$(BIN)/python -m pytest $(SPREAD) -m programs

test-clusters: $(VENV)/develop
	$(call ON_NFS,--nfs 3) overlapping=30 $(FEW)
	$(call ON_NFS,--nfs 4.2) overlapping=30 $(FEW)
	$(call ON_NFS,--nfs 3 --coarse-times) overlapping=30 touching=5 killed=5
	$(call ON_NFS,--nfs 3) away_90=5
	$(call ON_NFS,--nfs 4.2) away_90=5
	bash .ci/glusterfs.sh $(CURDIR)/$(BIN)/python $(SOURCE) overlapping=6 $(FEW)
	$(BIN)/python .ci/slurm.py

# A disk that flaps needs `apt-get install fuse3`.
torture: $(VENV)/develop
	$(BIN)/python -m pip install --quiet mfusepy==3.1.1
	$(BIN)/python -m pytest $(SPREAD) -rP -m torture

test-minimal: pyproject.toml setup.py
	@echo "Installing morpheus_core alone in $(VENV)-minimal: half a minute, 0.2 GB."
	$(PYTHON) -m venv $(VENV)-minimal
	$(VENV)-minimal/bin/python -m pip install --quiet --editable . pytest pytest-xdist hypothesis
	env -u MORPHEUS_CORE_REQUIRE_ALL $(VENV)-minimal/bin/python -m pytest $(SPREAD) \
		$(addprefix --ignore=,$(ALIKE)) -m "not slow and not programs and not torture"

# Old frameworks are left out: they are large. The oldest matplotlib and astropy call what warns that it is
# deprecated: in pyparsing 3.3, and in astropy itself.
test-oldest: pyproject.toml setup.py
	@echo "Installing the oldest dependencies in $(VENV)-oldest: a minute, 0.8 GB."
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python .ci/oldest.py > $(VENV)-oldest/constraints.txt
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint $(VENV)-oldest/constraints.txt \
		--editable ".[fast,plot,candidates,catalog]" pytest pytest-xdist hypothesis "pyparsing<3.3"
	env -u MORPHEUS_CORE_REQUIRE_ALL $(VENV)-oldest/bin/python -m pytest $(SPREAD) \
		-m "not slow and not programs and not torture" -W "ignore:The indent function"

$(VENV)/docs: $(VENV)/run
	@echo "Installing Sphinx, PyTorch and the rest in $(VENV): one to ten minutes, 2 GB or,"
	@echo "where PyTorch comes with CUDA, 6 GB; see Installation."
	$(BIN)/python -m pip install --quiet --editable ".[docs]" "torch$(TORCH)"
	@touch $@

docs: $(VENV)/docs
	rm -rf docs/gallery
	@echo "$(if $(WITHOUT_GALLERY),A minute,Four to ten minutes: every script of examples/ is run)."
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env $(WITHOUT_GALLERY) \
		docs build/docs
	@echo "See build/docs/index.html."

wheel: $(VENV)/develop
	$(BIN)/python -m build --outdir dist

$(VENV)/mutants: $(VENV)/develop
	$(BIN)/python -m pip install --quiet cosmic-ray==8.7.0
	@touch $@

mutants: $(VENV)/mutants
	$(BIN)/python .ci/mutants.py $(FOLDER) --sample $(SAMPLE) --seed $(SEED)

# An index of builds for processors makes the first of these smaller.
$(VENV)-bench/run: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --editable ".[fast,plot,dask,candidates,zarr]" \
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
	$(VENV)-bench/bin/python benchmarks/exposures.py
	$(VENV)-bench/bin/python benchmarks/segments.py
	$(VENV)-bench/bin/python benchmarks/sinks.py
	$(VENV)-bench/bin/python benchmarks/products.py
	$(VENV)-bench/bin/python benchmarks/cost_model.py

# What the build of another commit takes, beside this one.
BEFORE ?= HEAD~1

bench-builds: $(VENV)-bench/run
	mkdir -p build
	rm -rf build/before && git worktree prune && git worktree add --detach build/before $(BEFORE)
	$(VENV)-bench/bin/python benchmarks/builds.py build/before
	git worktree remove --force build/before

clean:
	rm -rf $(VENV) $(VENV)-minimal $(VENV)-oldest $(VENV)-bench $(VENV)-0.1 build dist docs/gallery \
		docs/api/help docs/_drawings .pytest_cache .mypy_cache .ruff_cache .hypothesis
