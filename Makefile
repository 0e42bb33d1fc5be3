# Recipes are one line: the logic lives in playbooks, roles and scripts/.
.DEFAULT_GOAL := help
SHELL := bash
ENV = eval "$$(scripts/env)" &&

.PHONY: help setup up down env lint test test-all test-unit mutants bench pin ee docs lock

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

setup: ## Make .venv, and this checkout known to Ansible as mlops.mlflow
	@scripts/setup

up: setup ## A kind cluster with a working MLflow in it
	@$(ENV) ansible-playbook -i inventories/development dev/kind.yml site.yml

down: setup ## Remove the kind cluster, keep the caches
	@$(ENV) ansible-playbook dev/kind.yml -e kind_cluster_state=absent

env: ## Print what a shell needs: eval "$(make -s env)"
	@scripts/env

lint: setup ## ruff, mypy, yamllint, ansible-lint
	@.venv/bin/python scripts/test.py --only lint

test: setup ## What a change has to pass, on clusters of its own that are removed afterwards
	@.venv/bin/python scripts/test.py $(if $(UNTIL),--until=$(UNTIL))

test-all: setup ## The same, with every scenario, ansible-core and Python
	@.venv/bin/python scripts/test.py --all

test-unit: setup ## The unit tests
	@.venv/bin/python scripts/test.py --only unit

mutants: setup ## Change what judges at random, and see whether its tests notice
	@.venv/bin/python tests/tools/mutants.py $(MUTANTS)

bench: setup ## Measure beside kubectl, helm and kubernetes.core, on the cluster of make up
	@$(ENV) ansible-playbook benchmarks/prepare.yml && PYTHONPATH=.ansible/collections python -m benchmarks.bench $(BENCH)

pin: setup ## Write the images' digests into INVENTORY (production)
	@$(ENV) ansible-playbook -i inventories/$(or $(INVENTORY),production) playbooks/pin.yml

ee: setup ## Build the execution environment for AWX, with podman or Docker
	@$(ENV) ansible-playbook dev/ee.yml

docs: setup ## The documentation site, in .state/docs/html
	@$(ENV) docs/site/build.sh

lock: setup ## Lock the Python requirements again
	@scripts/lock
