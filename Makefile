# SPDX-License-Identifier: GPL-2.0-only
# The entry points. `make help` lists them.

PLAN ?= patches/skb-extensions
BIN := .venv/bin
# Three for two processors: with one for each, tests that wait for a guest left them idle for 15 % of the time.
WORKERS ?= $(shell echo $$(( $$(nproc) * 3 / 2 )))

.PHONY: help setup run test test-slow check bench mutants stress selftests clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is missing for `make run`
	@ci/setup run

run: setup ## run PLAN (default: patches/skb-extensions) on real kernels; ARGS="-v none" keeps it to a variant
	@$(BIN)/harness run $(PLAN) $(ARGS)

test: ## install what is missing, then run all tests: unit, builds, boots, guest suites
	@ci/setup dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: ## install what is missing, then the slow tests: other architectures and compilers, every detector
	@ci/setup slow
	@$(BIN)/python -m pytest -m slow

check: ## linters, types, layers
	@ci/setup dev
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_layers.py

bench: ## measure, and write the table of docs/benchmarks.md
	@ci/setup dev
	@$(BIN)/python -m tests.bench

mutants: ## run the series with one fault each, and write the table of docs/mutants.md (about an hour)
	@ci/setup dev
	@$(BIN)/python -m tests.mutants

stress: setup ## disturb bridged traffic and IPsec (DURATION=600 SEED=1 VARIANT=lean, modular or debug)
	@$(BIN)/harness test patches/skb-extensions/stress.yaml -v $(or $(VARIANT),lean) tests/guest/stress \
		--duration $(or $(DURATION),600) --seed $(or $(SEED),1)

selftests: setup ## the kernel's own tests of bridges, xfrm, fragments and MPTCP, before the series and after it
	@$(BIN)/harness run patches/skb-extensions/selftests.yaml

clean: ## remove what this checkout made (not the cache)
	rm -rf .venv runs build *.egg-info .mypy_cache .ruff_cache .hypothesis
