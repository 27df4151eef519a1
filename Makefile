# The commands of this project. Each but `lint` makes what it needs first; none needs an account or a GPU. Those that test install
# PostgreSQL, Redis and chromium; those with Docker or Kubernetes bring their own, as root on Debian. ARGS go to the studio:
# make demo ARGS='--port 8080'

export VENV ?= .venv
BIN := $(VENV)/bin
CLUSTER_TESTS := $(BIN)/python tests/cluster/run.py $(BIN)/python -m pytest -m k8s

.PHONY: help setup demo dev test docker-test kill-test cluster-test cluster-test-all large-evaluation-test lint bench bench-sandbox screenshots lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

setup: ## install everything that a run needs
	@scripts/setup.sh

demo: setup ## train the starter model and watch it learn in a browser
	@$(BIN)/python manage.py studio --demo $(ARGS)

dev: setup ## web server and workers on this machine
	@$(BIN)/python manage.py studio $(ARGS)

test: ## lint, then all tests but those that need Docker, Kubernetes or a GPU
	@scripts/setup.sh --tests
	@$(MAKE) --no-print-directory lint
	@scripts/test.sh $(ARGS)

docker-test: ## the tests that need Docker, on an engine of their own
	@scripts/setup.sh --tests
	@scripts/docker_test.sh $(ARGS)

kill-test: ## kill N workers (default 200) on each backend in every phase of a sandbox's life, then look for what is left
	@scripts/setup.sh --tests
	@KILLS=$(or $(N),200) scripts/docker_test.sh -s -m 'not k8s' tests/sandbox/test_kills.py
	@KILLS=$(or $(N),200) $(BIN)/python tests/cluster/run.py $(BIN)/python -m pytest -s -m k8s tests/sandbox/test_kills.py

cluster-test: ## contract, faults and kills on a real Kubernetes: one built and started here (root, Debian), or that of KUBECONFIG
	@scripts/setup.sh --tests
	@$(CLUSTER_TESTS) tests/sandbox/test_contract_*.py tests/sandbox/test_kills.py tests/cluster/test_faults.py \
		tests/cluster/test_network.py $(ARGS)

cluster-test-all: ## all tests that need Kubernetes: attacks, hundreds of pods, tasks from outside, evaluations and training too
	@scripts/setup.sh --tests
	@$(CLUSTER_TESTS) tests/sandbox tests/cluster tests/e2e $(ARGS)

large-evaluation-test: ## an evaluation of N tasks x 16 scripted rollouts (default 500) through a whole studio
	@scripts/setup.sh --tests
	@TASKS=$(or $(N),500) $(BIN)/python -m pytest -s tests/web/test_large_evaluation.py

lint: ## style, types, layers, templates, migrations
	@scripts/lint.sh

bench: ## one starter step here and in TRL, and the ratios
	@scripts/setup.sh --bench
	@$(BIN)/python -m benchmarks.step_time

bench-sandbox: ## episodes in each sandbox here and in SWE-ReX, on a Docker engine and a Kubernetes node of their own
	@scripts/setup.sh --bench
	@$(BIN)/python -m tests.docker_engine --network $(BIN)/python -m benchmarks.sandbox $(ARGS)

screenshots: ## photograph the running studio's pages for the README
	@scripts/setup.sh --tests
	@$(BIN)/python scripts/screenshots.py

lock: ## resolve requirements*.txt into locks/ again
	@scripts/lock.sh

clean: ## remove what set-up made; runs under var/ stay
	rm -rf $(VENV) $(VENV)-bench node_modules static/vendor staticfiles var/models var/sandbox-python var/setup.log
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
