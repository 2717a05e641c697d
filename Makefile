# Everything a contributor runs. `make` alone lists it. Each target works alone on a fresh clone:
# what it needs is installed into .venv first, from requirements.lock, by plain pip.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint check bench docs lowest lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

install: $(INSTALLED) ## .venv with tlkit (editable) and every tool, as locked

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "error: this is Python %d.%d; the locked TensorFlow has wheels for 3.11 to 3.13.\nhint:  name another one: make PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

demo: $(INSTALLED) ## a folder of digits to a trained classifier and its report, with no network
	test -d demo/digits || $(BIN)/tlkit sample digits demo/digits
	test -f demo/run/report.html || { rm -rf demo/run; \
	    $(BIN)/tlkit finetune demo/digits --backbone nano --no-flip --out demo/run; }
	@echo "The report is $(CURDIR)/demo/run/report.html; open it in a browser."

# Processes; a file of tests stays in one, so that what its tests share is made once
WORKERS ?= 2

test: $(INSTALLED) ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED) ## format, lint, types, layers, and whether the generated docs are stale
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

check: lint test ## lint and test: what must pass before a commit

# make bench IMAGES=a-folder-of-photographs WEIGHTS=a-file
IMAGES ?= demo/digits
WEIGHTS ?= imagenet

bench: $(INSTALLED) ## the measurements behind benchmarks/results, on IMAGES with MobileNetV2's WEIGHTS
	test -d $(IMAGES) || $(BIN)/tlkit sample digits $(IMAGES)
	$(BIN)/python benchmarks/scan.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/decode.py $(IMAGES)
	$(BIN)/python benchmarks/decode.py $(IMAGES) --megapixels 12
	$(BIN)/python benchmarks/extraction.py $(IMAGES) --backbone resnet50
	$(BIN)/python benchmarks/odd_images.py $(IMAGES)
	$(BIN)/python benchmarks/features.py $(IMAGES) --weights $(WEIGHTS)
	$(BIN)/python benchmarks/cut_stage.py resnet50
	$(BIN)/python benchmarks/head_stage.py $(IMAGES) --weights $(WEIGHTS)
	$(BIN)/python benchmarks/views.py $(IMAGES) --weights $(WEIGHTS)
	$(BIN)/python benchmarks/standard_recipes.py $(IMAGES) --weights $(WEIGHTS)
	$(BIN)/python benchmarks/recipe.py --data $(dir $(IMAGES)) --sets $(notdir $(IMAGES)) --weights $(WEIGHTS) \
	    --table quality --recipes probe,default --seeds 0,1 --rows $(dir $(IMAGES))recipe-rows.jsonl
	$(BIN)/python benchmarks/export.py $(IMAGES) --weights $(WEIGHTS)

docs: $(INSTALLED) ## docs/cli.md and docs/map.md, from the code
	$(BIN)/python docs/generate.py

# uv resolves for every platform and Python at once; the files it writes are plain pip requirements.
COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-header --upgrade

lowest: $(INSTALLED) ## the tests with the oldest packages that pyproject.toml allows, their own warnings aside
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --allow-existing .venv-lowest --python $(BIN)/python
	VIRTUAL_ENV=.venv-lowest $(BIN)/uv pip install --quiet --resolution lowest-direct --editable '.[dev]'
	.venv-lowest/bin/python -m pytest -m 'not slow' -o filterwarnings=default -W ignore -p no:cacheprovider

lock: $(INSTALLED) ## resolve requirements.lock and the locks of the Docker images anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) pyproject.toml docker/build.in --extra dev -o requirements.lock
	$(COMPILE) docker/build.in -c requirements.lock -o docker/build.lock
	$(COMPILE) pyproject.toml docker/cpu.in --extra serve --overrides docker/cpu.override -c requirements.lock -o docker/cpu.lock
	$(COMPILE) pyproject.toml docker/gpu.in --extra serve -c requirements.lock -o docker/gpu.lock
	$(COMPILE) docker/answer.in -c requirements.lock -o docker/answer.lock

clean: ## remove what make demo, tests and tools left; .venv stays
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find tlkit tests docs benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
