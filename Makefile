# Short names for the plain commands. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?=
PRESET ?= laptop
RESULTS ?= results

comma := ,
ABLATIONS := crossover windows model-size data-quality sparsity attribution any-order super-dense monte-carlo ar-noise \
  regularization dual-objective block-diffusion conversion overfitting loss-vs-accuracy coder inference-compute

# `make help` shows the lines that begin with #=.
#= PRESET=            a file of configs/ by name (laptop), or a .yaml file of yours
#= DATA=              files, folders or globs of your text in place of the preset's
#= SEEDS=             repeats of each arm; auto: more, while undecided
#= LEVELS=            levels of what the ablation varies: data.unique_tokens=5000,20000
#= SET=               anything else of lab/config.py: "model.width=256 training.batch_size=16"
#= TUNE=              trials with which each arm is tuned first
#= RESULTS=           the results folder (results)
#= WORKERS=           runs at once; one a core, GPU or TPU chip if not given
#= PER_DEVICE=        processes that share one GPU
#= POPULATION=        runs that a process trains together, under JAX; as many as pay if not given
#= DEVICES=, RANKS=   devices of a process, and processes of a run
#= ENGINE=, SHARED=   local or ray, and storage by which results travel between nodes
#= STORAGE=           an Optuna database in place of the journal among the results
#= NAME=              of `ablate`: the file of an ablation of yours
#= TREE=, PORT=       of `board` and `dashboard`: which results, and where to serve them
#= EXTRAS=            of `setup`: torch, ray, postgres, dashboard, bench, lm-eval, hf, cuda, tpu
#= KERAS_BACKEND=, JAX_PLATFORMS=   as in Keras and JAX

# What a user may set, handed on as options. KERAS_BACKEND, JAX_PLATFORMS and STORAGE pass through the environment
# (a storage URL may hold a password, and options show in the list of processes), and so does DATA, untouched.
export STORAGE
ifdef DATA
export LAB_DATA := $(value DATA)
unexport DATA
endif
quoted = '$(subst ','\'',$(1))'
OPTIONS = --preset $(call quoted,$(PRESET)) \
  $(if $(SEEDS),--seeds $(SEEDS)) \
  $(foreach level,$(LEVELS),--levels $(call quoted,$(level))) \
  $(if $(TUNE),--tune $(TUNE)) \
  $(if $(WORKERS),--workers $(WORKERS)) \
  $(if $(ENGINE),--engine $(ENGINE)) \
  $(if $(PER_DEVICE),--per-device $(PER_DEVICE)) \
  $(if $(POPULATION),--population $(POPULATION)) \
  $(if $(DEVICES),--devices $(DEVICES)) \
  $(if $(RANKS),--ranks $(RANKS)) \
  $(if $(SHARED),--shared $(call quoted,$(SHARED))) \
  $(foreach override,$(SET),--set $(call quoted,$(override))) \
  $(if $(filter-out results,$(RESULTS)),--results $(call quoted,$(RESULTS)))

# What each target takes, beside these and what goes to other programs through the environment. A variable on
# the command line that its target does not take is refused, as it would change nothing.
RUN := PRESET DATA SEEDS LEVELS SET TUNE RESULTS WORKERS PER_DEVICE POPULATION DEVICES RANKS ENGINE SHARED STORAGE
BENCH := SHAPE SIDE ARM DTYPE CORES ROUNDS SECONDS
ENVIRONMENT := KERAS_% JAX_% XLA_% TF_% CUDA_% NVIDIA_% TPU_% RAY_% OMP_% OPENBLAS_% LAB_% PYTHON% PIP_% HF_% \
  PG% LANG LC_% COLUMNS TMPDIR SHELL
$(foreach name,$(ABLATIONS) smoke,$(eval takes-$(name) := $(RUN)))
takes-ablate := NAME $(RUN)
takes-data := PRESET DATA SET
takes-status := RESULTS
takes-report := RESULTS
takes-board := TREE PORT RESULTS
takes-dashboard := TREE PORT STORAGE RESULTS
takes-bench := $(BENCH) RESULTS
takes-test := BACKENDS
takes-test-backends := BACKENDS
takes-setup := $(RUN) $(BENCH) NAME TREE PORT BACKENDS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
TAKES := PYTHON VENV EXTRAS $(foreach goal,$(MAKECMDGOALS),$(takes-$(goal)))
ifneq ($(filter-out $(TAKES) $(ENVIRONMENT),$(GIVEN)),)
  STRANGE := $(firstword $(filter-out $(TAKES) $(ENVIRONMENT),$(GIVEN)))
  NEAREST := $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1].upper(), \
    sys.argv[2:], 1, 0.7))' '$(STRANGE)' $(TAKES) KERAS_BACKEND JAX_PLATFORMS)
  $(error make $(MAKECMDGOALS) takes no $(STRANGE)=$(if $(NEAREST),; is $(NEAREST)= meant?); it takes $(strip $(TAKES)))
endif
ifneq ($(EXTRAS),)
  KNOWN := $(shell sed -n '/^.project.optional-dependencies/,/^$$/s/ = .*//p' pyproject.toml)
  ifneq ($(or $(word 2,$(EXTRAS)),$(filter-out $(KNOWN),$(subst $(comma), ,$(EXTRAS)))),)
    $(error EXTRAS must be of $(KNOWN), several with commas alone between them, but got EXTRAS=$(EXTRAS))
  endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup data $(ABLATIONS) ablate smoke status report board dashboard bench format lint type test test-backends test-extras test-large clean

help: ## list the targets
	@echo 'Ablations:'
	@for name in $(ABLATIONS); do \
	  printf '%-20s%s\n' $$name "$$(sed -n '1s/^"""//p' ablations/$$(echo $$name | tr - _).py)"; done
	@echo 'Others:'
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20
	@echo 'Variables:'
	@sed -n 's/^#= //p' $(MAKEFILE_LIST)

# The stamp names the extras, so that asking for another one installs it and a second make installs nothing.
STAMP := $(VENV)/.installed$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))
NEW := import sys; sys.exit(sys.version_info < (3, 11))
WHOLE := $(BIN)/python -m pip --version >/dev/null 2>&1
setup: $(STAMP) ## install the lab into .venv (EXTRAS=torch adds PyTorch)
$(STAMP): pyproject.toml constraints.txt
	@$(WHOLE) || $(PYTHON) -c '$(NEW)' || { echo "the lab needs Python 3.11 or newer, but $(PYTHON) is" \
	  "$$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@test ! -L $(BIN)/python -a ! -e $(BIN)/python || $(BIN)/python -c '$(NEW)' || \
	  { echo "$(VENV) was made with a Python that is too old, or gone: rm -rf $(VENV)" >&2; exit 1; }
	$(WHOLE) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	touch $@

$(ABLATIONS): setup
	$(BIN)/python -m lab ablate $@ $(OPTIONS)

ablate: setup ## an ablation of your own (NAME=path/to/mine.py)
	$(BIN)/python -m lab ablate $(call quoted,$(NAME)) $(OPTIONS)

smoke: PRESET := smoke
smoke: setup ## the crossover ablation in seconds: does everything run?
	$(BIN)/python -m lab ablate crossover $(OPTIONS)

data: setup ## what a corpus holds, and how much of it can be trained on (PRESET= DATA= SET=)
	$(BIN)/python -m lab data --preset $(call quoted,$(PRESET)) $(foreach override,$(SET),--set $(call quoted,$(override)))

status: setup ## what is queued, running, done and failed, and the time left
	$(BIN)/python -m lab status $(call quoted,$(RESULTS))

report: setup ## write the report pages again from the results that exist
	$(BIN)/python -m lab report $(call quoted,$(RESULTS))

board: setup ## TensorBoard over every run, or those of one tree, on loopback (TREE= PORT=)
	$(BIN)/python -m lab board $(call quoted,$(or $(TREE),$(RESULTS))) $(if $(PORT),--port $(PORT))

# STORAGE= looks into a database; TREE= is needed where there are several trees.
dashboard: ## optuna-dashboard over a ledger, read-only, on loopback (TREE= PORT= STORAGE=)
	$(MAKE) setup EXTRAS=$(if $(EXTRAS),$(EXTRAS)$(comma))dashboard
	$(BIN)/python -m lab dashboard $(call quoted,$(or $(TREE),$(RESULTS))) $(if $(PORT),--port $(PORT))

# SHAPE= SIDE= ARM= DTYPE= CORES= choose cells, ROUNDS= and SECONDS= how long each is measured.
bench: ## times a training step beside a hand-written JAX loop, plain PyTorch and KerasHub (SHAPE= CORES= ...)
	$(MAKE) setup EXTRAS=$(if $(EXTRAS),$(EXTRAS)$(comma))bench
	$(BIN)/python -m benchmarks.speed $(foreach name,SHAPE SIDE ARM DTYPE CORES ROUNDS SECONDS, \
	  $(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) '$($(name))')) --out '$(RESULTS)/speed'

format: setup ## format and fix the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup ## mypy, strict
	$(BIN)/mypy

# Whole files side by side (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: setup ## every test under JAX, then the numerics under the other installed backends
	KERAS_BACKEND=jax $(PYTEST)
	$(MAKE) test-backends

BACKENDS ?= tensorflow torch
test-backends: setup ## the numerics under TensorFlow, and under PyTorch where it is installed (BACKENDS=torch: it alone)
	for backend in $(BACKENDS); do \
	  ! $(BIN)/python -c "import $$backend" 2>/dev/null || KERAS_BACKEND=$$backend $(PYTEST) -m backend || exit 1; \
	done

test-extras: setup ## the tests that need extras, under JAX (EXTRAS=ray,postgres,dashboard,hf,lm-eval)
	KERAS_BACKEND=jax $(PYTEST) -m extra

test-large: setup ## what takes gigabytes and minutes: the paper's shapes on this machine, under JAX
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m large

clean: ## remove caches, never results
	rm -rf .mypy_cache .ruff_cache .pytest_cache
