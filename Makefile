# The commands a person needs; CI runs the same ones. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# BCC is Debian's python3-bpfcc, and only Debian's own interpreter sees it: never the first python3 on PATH.
SYSTEM_PYTHON := /usr/bin/python3
VENV := .venv
PY := $(VENV)/bin/python
FARCALL := $(VENV)/bin/farcall

DEBIAN_RUN := python3-venv python3-bpfcc redis-server iproute2 iptables dnsmasq-base nodejs npm
DEBIAN_TEST := chromium gcc libc6-dev git openssl postgresql mariadb-server memcached nginx-light haproxy \
	default-jre-headless maven php-cli php-curl ruby rabbitmq-server
# For images and a cluster: our own Docker daemon, and what nodes and base images are made of where no registry answers.
DEBIAN_CLUSTER := docker.io containerd runc containernetworking-plugins debootstrap iptables gcc libc6-dev
DEBIAN_NAMING := musl-tools openjdk-17-jdk-headless
PYTHON_STAMP := $(VENV)/.stamp-python
ARTEFACT := probes/farcall_probes/bpf/artefact.json
BUNDLE := console/farcall_console/static/build/manifest.json
BPF_SOURCES := $(wildcard probes/farcall_probes/bpf/*.c probes/farcall_probes/bpf/*.h probes/farcall_probes/compile.py probes/farcall_probes/artefact.py)
WEB_SOURCES := $(shell find console/web -type f -not -path '*/node_modules/*' 2>/dev/null)
KUBE := tests/cluster/build-kube.sh
HELM := tests/cluster/build-helm.sh
APISERVER_TIER = $(TIER) --with-net apiserver $(PY) -m pytest -m apiserver --timeout 900 tests/apiserver
APISERVER_STAMP := $(VENV)/.stamp-apiserver
APISERVER_SOURCES := $(shell git ls-files core exporter operator templates deploy crds examples tests requirements.lock 2>/dev/null)
# A benchmark is bench/bench_<room>.py, called by `make bench-<room>`; `make bench` calls all.
BENCHES := $(patsubst bench/bench_%.py,bench-%,$(wildcard bench/bench_*.py))

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# ---- install ----------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(PYTHON_STAMP) $(ARTEFACT) $(BUNDLE) ## install everything that running needs, and nothing more

.PHONY: setup-test
setup-test: setup debian-test servers ## the same, and what the tests need beside it

.PHONY: debian-run debian-test debian-cluster debian-naming
debian-run:
	@deploy/install-debian-packages.sh $(DEBIAN_RUN)
debian-test:
	@deploy/install-debian-packages.sh $(DEBIAN_TEST)
debian-cluster:
	@deploy/install-debian-packages.sh $(DEBIAN_CLUSTER)
debian-naming:
	@deploy/install-debian-packages.sh $(DEBIAN_NAMING)

.PHONY: servers
servers: debian-test ## fetch or build the servers that the tests talk to, once, in the user's cache folder
	@tests/jvm/build-servers.sh
	@tests/build-go.sh tests/collector >/dev/null
	@tests/build-go.sh tests/peers/http2 >/dev/null
	@tests/build-go.sh tests/nats-server github.com/nats-io/nats-server/v2 >/dev/null
	@tests/build-promtool.sh >/dev/null

$(PYTHON_STAMP): requirements.lock pyproject.toml | debian-run
	@echo "setup: virtual environment of $(SYSTEM_PYTHON)"
	$(SYSTEM_PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(ARTEFACT): $(BPF_SOURCES) | debian-run
	@echo "setup: compiling the BPF programs"
	cd probes && $(SYSTEM_PYTHON) -m farcall_probes.compile

$(BUNDLE): $(WEB_SOURCES) | debian-run
	@echo "setup: bundling the console"
	cd console/web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

.PHONY: lock
lock: ## write requirements.lock anew from pyproject.toml (no registry address may enter it)
	$(SYSTEM_PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/python -m pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url \
		--no-emit-find-links --python-version 3.11 --quiet --upgrade -o requirements.lock \
		--custom-compile-command "make lock"
	rm -rf $(VENV)-lock

# ---- run --------------------------------------------------------------------------------------------------------

.PHONY: up
up: setup ## run farcall on this machine with the demo workload, until Ctrl-C
	$(FARCALL) up --demo -f examples/hobby.yaml

# ---- images and a cluster ---------------------------------------------------------------------------------------

.PHONY: images
images: debian-cluster ## build the container images, in DOCKER_HOST or in a Docker daemon of our own
	@DOCKER_HOST=$$(tests/cluster/docker.sh up) deploy/build-images.sh

# WORKERS: nodes beside the control plane.
.PHONY: cluster cluster-down
cluster: debian-cluster ## a Kubernetes cluster on this machine (kind) with farcall installed; prints its kubeconfig
	@FARCALL_WORKERS=$(or $(WORKERS),1) tests/cluster/cluster.sh up
cluster-down: ## remove that cluster, and our Docker daemon; fails when anything of theirs is left on this machine
	@tests/cluster/cluster.sh down

# ---- check ------------------------------------------------------------------------------------------------------

# Tiers go LANES at a time, since each waits for more than half of its time, and in namespaces of their own (tests/run-tier.sh).
# What the small tests find is found first: when they fail no other begins. When another fails, the rest are run all the same.
LANES ?= 3
# Beside a cluster that tier is slowest anyway; three had a load of 60, and an agent that stood still for longer than sights wait.
e2e: LANES = 2
TIER := tests/run-tier.sh
AT_ONCE = $(TIER) --forget; $(MAKE) --no-print-directory --keep-going -j$(LANES)
TELL = && failed=0 || failed=1; $(TIER) --tell; exit $$failed
# KEEP=1 leaves the cluster for the next time.
CLEAR = && failed=0 || failed=1; [ -n "$(KEEP)" ] || $(MAKE) --no-print-directory cluster-down || failed=1; \
	$(TIER) --tell; exit $$failed
SMALL := tier-lint tier-unit
ALONE := tier-bpf tier-servers tier-browser
WHOLE := tier-e2e tier-soak tier-scores

.PHONY: test e2e e2e-kind
test: setup-test ## every tier that needs no cluster
	@$(AT_ONCE) FIRST="$(SMALL)" tier-apiserver $(ALONE) $(TELL)

e2e: setup-test debian-cluster debian-naming ## the operator against a real API server, and the whole product, started as a user starts it
	@$(AT_ONCE) tier-kind $(APISERVER_STAMP) $(WHOLE) $(CLEAR)

e2e-kind: setup-test debian-cluster ## the tests on a Kubernetes cluster alone
	@$(AT_ONCE) tier-kind $(CLEAR)

.PHONY: $(SMALL) $(ALONE) $(WHOLE) tier-apiserver tier-kind
tier-lint:
	@$(TIER) --in-common lint $(MAKE) --no-print-directory lint
tier-unit:
	@$(TIER) --in-common unit $(PY) -m pytest -m "unit or golden" tests/unit tests/golden
$(ALONE): $(FIRST)
	@$(TIER) $(@:tier-%=%) $(PY) -m pytest -m $(@:tier-%=%) tests/$(@:tier-%=%)
tier-apiserver: $(FIRST)
	@if { $(KUBE) --check && $(HELM) --check; } >/dev/null 2>&1; then $(APISERVER_TIER) && touch $(APISERVER_STAMP); \
	else echo "test: left out are the tests against a real API server; \`make e2e\` builds it and runs them, \`make kube\` builds it alone"; fi
tier-e2e: $(FIRST)
	@$(TIER) e2e $(PY) -m pytest -m e2e --timeout 900 --ignore tests/e2e/kind tests/e2e
tier-soak: kube $(FIRST)
	@$(TIER) --with-net soak $(MAKE) --no-print-directory soak DURATION=120
tier-scores: $(FIRST)
	@$(TIER) --with-net scores $(MAKE) --no-print-directory scores
tier-kind: cluster $(FIRST)
	@$(TIER) --in-common kind $(PY) -m pytest -m kind --timeout 900 tests/e2e/kind

# It takes minutes, nearly all of them waiting for controllers: once for the same sources.
$(APISERVER_STAMP): $(APISERVER_SOURCES) | kube $(FIRST)
	@$(APISERVER_TIER)
	@touch $@

.PHONY: kube
kube: ## build Kubernetes' own programs and Helm for the tests, once, in the user's cache folder
	@$(KUBE)
	@$(HELM)

# DURATION: seconds. An hour shows a leak that two minutes do not. Both at once: they are mostly waiting.
.PHONY: soak
soak: setup-test kube ## the agent under a mixed load and the operator under churn for DURATION seconds (default 3600): nothing may grow
	@$(PY) bench/soak_probes.py $(or $(DURATION),3600) & probes=$$!; failed=0; \
		$(PY) bench/soak_operator.py $(or $(DURATION),3600) || failed=1; wait $$probes || failed=1; exit $$failed

# FUZZ_S: seconds for each entrance; FUZZ: which of them. What is found is kept in tests/corpus/fuzz, for `make test`.
FUZZ ?= $(notdir $(patsubst %/,%,$(wildcard tests/corpus/fuzz/*/)))
.PHONY: fuzz
fuzz: setup-test ## hostile bytes for every entrance, guided by coverage, FUZZ_S seconds each (default 60)
	@for entrance in $(FUZZ); do echo "fuzz: $$entrance"; \
		$(PY) tests/run_fuzz.py $$entrance $(or $(FUZZ_S),60) 2>&1 | grep -v '^INFO: Instrumenting'; done

.PHONY: soak-cluster
soak-cluster: setup-test cluster ## twenty pods calling on the cluster for DURATION seconds (default 1200): nothing lost, grown or restarted
	FARCALL_SOAK_S=$(or $(DURATION),1200) $(PY) -m pytest tests/e2e/kind/test_kind_soak.py --timeout 7200

# One after the other, whatever -j says, and the rest also when one fails. QUICK=1: under a minute each.
.PHONY: bench
bench: ## every benchmark, with a table and bench/results/<name>.json (QUICK=1: shorter)
	$(MAKE) --no-print-directory --keep-going -j1 $(BENCHES)
bench-operator: kube
bench-images: images
bench-naming: debian-naming
# KEEP=1 leaves the cluster for the next time.
bench-cluster: setup-test cluster
	$(PY) bench/bench_cluster.py && passed=0 || passed=$$?; \
		[ -n "$(KEEP)" ] || $(MAKE) --no-print-directory cluster-down; exit $$passed
bench-%: setup-test
	$(PY) bench/bench_$*.py

# Beside the packages it needs Go on the PATH, for clients with Go's own resolver.
.PHONY: naming-score
naming-score: bench-naming ## 280 calls with a known right name, as farcall names them: none may be wrong (QUICK=1: a fifth of them)

# Beside the packages it needs Go and Node.js on the PATH, for servers written in them.
.PHONY: linking-score
linking-score: bench-linking ## calls through three services, each with a known true parent: none may be wrong (QUICK=1: a fifth of them)

# A fifth of each, one after the other: what the gate can spare two minutes for.
.PHONY: scores
scores: setup-test debian-naming ## both scores in short: no name and no parent may be wrong
	QUICK=1 $(PY) bench/bench_naming.py
	QUICK=1 $(PY) bench/bench_linking.py

.PHONY: lint
lint: $(PYTHON_STAMP) ## style, types, and the arrows between the rooms
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/mypy

.PHONY: fmt
fmt: $(PYTHON_STAMP) ## format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: generate
generate: $(PYTHON_STAMP) ## write what is generated from the code: CRD, schemas, reference pages, install manifests
	$(PY) -m farcall.generate
	$(PY) -m farcall_operator.installing

.PHONY: uninstall
uninstall: ## remove what farcall left on this machine, and what the other commands made in this folder
	@for folder in /run/farcall/*/; do \
		[ ! -d "$$folder" ] || flock --nonblock "$$folder" true || \
			{ echo "a farcall instance runs here ($$folder): stop it with Ctrl-C first" >&2; exit 1; }; done
	@deploy/remove-demo-leftovers.sh
	rm -rf /run/farcall /var/lib/farcall
	$(MAKE) --no-print-directory clean

.PHONY: clean
clean: ## remove what the other commands made in this folder
	rm -rf $(VENV) $(ARTEFACT) console/web/node_modules console/farcall_console/static/build dist build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
