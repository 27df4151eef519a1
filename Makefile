# The commands of this project. Each makes what it needs first; none needs an account, a GPU, Docker, Redis or PostgreSQL
# but `make test`, which installs and starts its own PostgreSQL and Redis. ARGS go to the studio:
# make demo ARGS='--port 8080'

export VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup demo dev test cluster-test lint bench screenshots lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

setup: ## install everything that a run needs
	@scripts/setup.sh

demo: setup ## train the starter model and watch it learn in a browser
	@$(BIN)/python manage.py studio --demo $(ARGS)

dev: setup ## web server and workers on this machine
	@$(BIN)/python manage.py studio $(ARGS)

test: ## everything that must hold: lint, then all tests
	@scripts/setup.sh --tests
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest

cluster-test: ## the sandbox on a real Kubernetes: one built and started here (root, Debian), or that of KUBECONFIG
	@scripts/setup.sh --tests
	@$(BIN)/python tests/cluster/run.py $(BIN)/python -m pytest -m k8s tests/sandbox tests/cluster $(ARGS)

lint: ## style, types, layers, templates, migrations
	@scripts/lint.sh

bench: ## one starter step here and in TRL, and the ratios
	@scripts/setup.sh --bench
	@$(BIN)/python -m benchmarks.step_time

screenshots: ## photograph the running studio's pages for the README
	@scripts/setup.sh --tests
	@$(BIN)/python scripts/screenshots.py

lock: ## resolve requirements*.txt into locks/ again
	@scripts/lock.sh

clean: ## remove what set-up made; runs under var/ stay
	rm -rf $(VENV) $(VENV)-bench node_modules static/vendor staticfiles var/models var/sandbox-python var/setup.log
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
