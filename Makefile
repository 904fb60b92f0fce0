# The commands of this project. `make` alone lists them.

PYTHON ?= python3
PY := .venv/bin/python
FLASK := $(PY) -m flask --app wsgi
PYTEST := $(PY) -m pytest
LOADFILE := --dist loadfile --no-loadscope-reorder
SUITE := -n auto $(LOADFILE) $(if $(CI),--cov --cov-report=term --cov-fail-under=95)

.DEFAULT_GOAL := help
.PHONY: help run dev test test-fast lint lint-deploy format migrate november7 bench lock upgrade-deps openapi \
	vendor screenshots clean

help: ## List all commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/run ## Install what is needed, migrate the database, and run the service
	@$(PY) -m tools.prepare
	@export MOVIES_WARNED=1; exec $(PY) -m gunicorn wsgi:app

dev: .venv/dev ## Run the service, reloading on every change
	@$(PY) -m tools.prepare
	@export MOVIES_WARNED=1; exec $(FLASK) run --debug $$($(PY) -c 'from config import Config as c; print("-h", c.HOST, "-p", c.PORT)')

test: .venv/dev ## Run all tests, or those in ARGS: make test ARGS="tests/test_cli.py -x"
	$(PYTEST) $(or $(ARGS),$(SUITE))

test-fast: .venv/dev ## Run the fast tests, on SQLite only
	$(PYTEST) -n logical $(LOADFILE) -m "not slow and not registry" -k "not postgresql and not redis" $(ARGS)

lint: .venv/dev ## Check style, types, the Dockerfile, and the API for breaking changes
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/hadolint Dockerfile
	$(PY) -m tools.breaking_changes

lint-deploy: .venv/dev ## Check deploy/, compose.yaml and the workflows with the linter of each format
	bash deploy/lint.sh .venv/bin/uv

format: .venv/dev ## Format the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

migrate: .venv/run ## Migrate the database to the newest revision
	$(FLASK) db upgrade

november7: .venv/run ## Run the stand-in provider; ARGS=--help lists its faults
	$(PY) -m stand_in $(ARGS)

bench: .venv/dev ## Run the measurements that the docs quote; ARGS=--help lists them
	$(PY) -m bench $(ARGS)

# The locks keep extras: without them, pip before 23.3 refuses to install with hashes.
COMPILE := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-header --no-emit-index-url --no-emit-find-links

lock: .venv/dev ## Update the lock files from requirements*.in, keeping existing pins
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-otel.in -o requirements-otel.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

upgrade-deps: COMPILE += --upgrade
upgrade-deps: lock ## Upgrade every pin to the newest release

openapi: .venv/run ## Write the OpenAPI document to docs/openapi.json
	MOVIES_CONFIG=testing MOVIES_ENV_FILE= $(PY) -m tools.write_openapi

vendor: .venv/run ## Download Swagger UI and ReDoc as movies/assets/vendor.json pins them; needs npm
	$(PY) -m tools.vendor_assets

screenshots: .venv/dev ## Take screenshots of the documentation pages; needs Chromium
	MOVIES_ENV_FILE= $(PY) -m tools.screenshots

clean: ## Delete the environment and caches, but not instance/
	rm -rf .venv .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. Each stamp file is written after success only, so an interrupted installation is
# repeated. If the environment's Python is gone, as after a system upgrade, it is created again.
NEW_ENVIRONMENT := $(shell test ! -e .venv/made || $(PY) -c 'import pip' 2>&1 || rm -f .venv/made)

.venv/made:
	@$(PYTHON) -c 1 2>/dev/null || $(call fail,$(PYTHON) is not installed. Install Python 3.11 or newer)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $(call fail,$(PYTHON) is \
	$$($(PYTHON) -c 'import sys; print("Python %d.%d" % sys.version_info[:2])'); 3.11 or newer is needed)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call fail,$(PYTHON) has no venv module. \
	On Debian and Ubuntu: apt install $(notdir $(PYTHON))-venv)
	@echo "Creating an environment in .venv"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/run: requirements.txt .venv/made
	$(install)

.venv/dev: requirements-dev.txt .venv/run
	$(install)

fail = { echo "Error: $(1), or name another Python: make $(or $(MAKECMDGOALS),run) PYTHON=python3.12" >&2; exit 1; }
LOG := .venv/pip.log
UNREACHABLE := SSLError|NewConnectionError|NameResolutionError|ConnectTimeout|ConnectionError|ProxyError|ReadTimeout
define install
@echo "Installing $<; this may take a few minutes"
@$(PY) -m pip install --disable-pip-version-check --no-input --require-hashes -r $< >$(LOG) 2>&1 || \
	if grep -qE '$(UNREACHABLE)' $(LOG); then \
		echo "Error: the package index cannot be reached. Check the network and proxy, then run make again (details: $(LOG))" >&2; exit 1; \
	else tail -n 5 $(LOG) >&2; \
		echo "Error: pip could not install $< (details: $(LOG))" >&2; exit 1; fi
@touch $@
endef
