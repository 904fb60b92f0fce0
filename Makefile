# Everything that is done with this project. `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run dev test lint format migrate bench november7 lock vendor clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: migrate ## Serve on PORT (8000), with all that is needed for it
	exec $(BIN)/gunicorn wsgi:app

dev: migrate .venv/dev ## Serve on PORT, reloading on every change
	FLASK_RUN_PORT=$$($(BIN)/python -c 'from config import Config; print(Config.PORT)') \
		$(BIN)/flask --app wsgi run --debug

test: .venv/dev ## Run the whole test suite
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(if $(CI),--cov-fail-under=95)

lint: .venv/dev ## Check style, types and container files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

format: .venv/dev ## Put the code into its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

migrate: .venv/run ## Bring the database up to date
	$(BIN)/flask --app wsgi db upgrade

november7: .venv/run ## Serve the stand-in provider; ARGS="--help" lists how it can misbehave
	$(BIN)/python -m stand_in $(ARGS)

bench: .venv/dev ## Measure; ratios of one run
	$(BIN)/python -m bench $(ARGS)

lock: .venv/dev ## Compile requirements*.in to pinned requirements*.txt
	$(BIN)/uv pip compile $(LOCK) requirements.in -o requirements.txt
	$(BIN)/uv pip compile $(LOCK) requirements-dev.in -o requirements-dev.txt
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links

vendor: .venv/run ## Download Swagger UI and ReDoc as movies/assets/vendor.json pins them; needs npm
	$(BIN)/python tools/vendor_assets.py

clean: ## Remove the environment and what tools left behind; instance/ stays
	rm -rf .venv .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment; each stamp is as new as the requirements that were installed.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
