# Every target makes what it needs; nothing asks for anything.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
FUZZ_SECONDS ?= 3600

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: .venv/.demo ## Run the main job on the embedded digits data and show its table
	$(BIN)/gradnet reproduce --config demo.yaml

.PHONY: test
test: .venv/.test ## Run the tests (slow ones: make test-slow)
	$(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: test-slow
test-slow: .venv/.test ## Run the slow tests
	$(BIN)/python -m pytest -m slow

.PHONY: fuzz
fuzz: .venv/.test ## Read damaged files for an hour (FUZZ_SECONDS=600 for less)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/hostile/test_fuzz.py

.PHONY: check
check: .venv/.check ## Check format, lint, types, directions of imports, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

.PHONY: format
format: .venv/.check ## Format and apply the automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: docs
docs: .venv/.docs ## Build the documentation; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

.PHONY: notebook
notebook: .venv/.test ## Run the notebook anew and keep its outputs
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/Gradnet.ipynb

.PHONY: bench
bench: .venv/.bench ## Time gradient extraction beside Opacus, BackPACK and torch.func
	$(BIN)/python benchmarks/extraction.py

.PHONY: clean
clean: ## Remove the environment and caches
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis \
		.import_linter_cache docs/_build

.venv/.made:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.demo: .venv/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.test: .venv/.demo pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,notebook]'
	@touch $@

.venv/.docs: .venv/.demo pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

.venv/.bench: .venv/.demo pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[peers,torchvision]'
	@touch $@

.venv/.check: .venv/.demo pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
