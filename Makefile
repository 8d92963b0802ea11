# The workshop: one command for each thing one does with a checkout. `make` alone lists them.
#
# There is one environment, .venv. It grows in place: `demo` needs the smallest of the locks,
# `install` adds what trains and loads models, `test` and `check` add the tools. Files .venv/.core,
# .venv/.full and .venv/.dev note what it holds, so nothing is installed twice, and a changed lock or
# pyproject.toml is installed anew. Every package comes with its hash from locks/.

SHELL := /bin/bash
PYTHON ?= python3
BROKER ?=
ARGS ?=

PIP = .venv/bin/pip --disable-pip-version-check --no-input
KERNELS = $(wildcard stream_detector/core/*.py stream_detector/core/*/*.py stream_detector/detectors/*.py stream_detector/detectors/*/*.py)
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --group build pyproject.toml

GENERATED = docs/generate.py deploy/grafana/build.py deploy/node-red/build.py

.DEFAULT_GOAL := help
.PHONY: help demo install test stack check format docs site dist bench quality faults lock clean

help: ## show this list
	@echo "make TARGET, one of:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-9s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "BROKER=mqtt://host:1883 lets the demo use a broker of your own;"
	@echo "ARGS='...' goes to the command of demo, test, bench, quality, faults and lock; PYTHON=... is the Python to build on."

demo: .venv/.kernels ## a broker, a simulated plant and the detector, live in this terminal
	@.venv/bin/stream-detector demo $(if $(BROKER),--broker $(BROKER)) $(ARGS)

install: .venv/.full .venv/.kernels ## .venv/bin/stream-detector, with everything it can do
	@echo "Ready: .venv/bin/stream-detector --help"

test: .venv/.dev .venv/.kernels ## all tests, several at a time; ARGS='-n 0' one after the other
	@.venv/bin/pytest -m "not stack" -n auto --dist worksteal $(ARGS)
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto >/dev/null || { \
		echo "Not run, as there is no mosquitto here: the tests marked SKIPPED above. The others ran"; \
		echo "against the embedded broker. For all of them (Debian, Ubuntu): apt install mosquitto"; }

stack: .venv/.peers .venv/.kernels ## the tests with Prometheus, Node-RED and other brokers around the service
	@.venv/bin/pytest -m stack -n auto --dist loadfile $(ARGS)

check: .venv/.dev ## format, lint, types, layers, generated pages: what has to hold before the tests
	@echo "format:"; .venv/bin/ruff format --quiet --check .
	@echo "lint:"; .venv/bin/ruff check --quiet .
	@echo "types:"; .venv/bin/mypy
	@echo "layers:"; .venv/bin/lint-imports | sed -n '/KEPT$$\|BROKEN$$\|^Contracts:/p;/^Broken/,$$p'; \
		exit $${PIPESTATUS[0]}
	@echo "generated pages, dashboards and flow:"; for each in $(GENERATED); do \
		.venv/bin/python $$each --check || exit 1; done

format: .venv/.dev ## format the code, and mend what ruff can mend
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format .

docs: .venv/.dev ## make docs/reference, the dashboards and the flow anew from their code
	@for each in $(GENERATED); do .venv/bin/python $$each || exit 1; done

site: .venv/.dev ## the documentation as pages, in build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

dist: .venv/.dev ## the release, in dist/: a wheel and the source that makes it
	@rm -rf dist
	@.venv/bin/hatchling build --directory dist

bench: .venv/.dev ## throughput, latency, memory
	@.venv/bin/python -m benchmarks $(ARGS)

quality: .venv/.dev .venv/.kernels ## how right alerts and scores are; DATA=dir has public data sets, OUT=dir gets each row's score
	@.venv/bin/python -m benchmarks.quality $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT)) $(ARGS)

faults: .venv/.dev ## the proofs of durability, in full; ARGS=--short in some minutes
	@.venv/bin/python -m tests.faults $(ARGS)

lock: .venv/.dev ## make locks/ anew; ARGS=--upgrade takes the newest of everything
	@$(LOCK) $(ARGS) --extra embedded --extra models --group dev -o locks/dev.txt
	@$(LOCK) --constraint locks/dev.txt --extra embedded --extra models -o locks/full.txt
	@$(LOCK) --constraint locks/dev.txt --extra embedded -o locks/core.txt
	@git --no-pager diff --stat -- locks

clean: ## remove .venv and everything that tools left behind
	@rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment ---------------------------------------------------------------------------------

.DELETE_ON_ERROR:
.NOTPARALLEL:

.venv/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) -V) is too old: 3.11 or newer is needed. Name one: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$$($(PYTHON) -V) has no venv. Install it (Debian, Ubuntu: apt install python3-venv), then come again." >&2; \
		exit 1; }
	@echo "Making .venv with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv .venv
	@touch $@

# The larger lock holds all of the smaller one, at the same versions: what installs it notes both.
define install
	@echo "Installing locks/$(1).txt"
	@$(PIP) install --quiet --require-hashes -r locks/$(1).txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
endef

.venv/.core: locks/core.txt pyproject.toml .venv/.made
	$(call install,core)
	@touch $@

.venv/.full: locks/full.txt pyproject.toml .venv/.made
	$(call install,full)
	@touch .venv/.core $@

.venv/.dev: locks/dev.txt pyproject.toml .venv/.made
	$(call install,dev)
	@touch .venv/.core .venv/.full $@

# What the tests talk to from npm: Node-RED, another broker, a checker of compose files.
.venv/.peers: tests/peers/package-lock.json tests/peers/package.json .venv/.dev
	@command -v npm >/dev/null || { echo "make stack needs Node.js and npm (Debian, Ubuntu: apt install nodejs npm)" >&2; exit 1; }
	@echo "Installing tests/peers/package-lock.json"
	@mkdir -p .venv/peers
	@cp tests/peers/package.json tests/peers/package-lock.json tests/peers/.npmrc .venv/peers/
	@npm ci --prefix .venv/peers --silent --no-progress
	@touch $@

# After .full in `install` and .dev in `test`, so that a smaller lock is not installed first. Before the
# tests, so that those that run at the same time do not each compile the same kernels.
.venv/.kernels: $(KERNELS) | .venv/.core
	@echo "Compiling the kernels, once"
	@find stream_detector -name '*.nb[ci]' -delete # numba does not notice that a kernel which it calls has changed
	@.venv/bin/python deploy/compile_kernels.py
	@touch $@
