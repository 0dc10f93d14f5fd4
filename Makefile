# Every target installs what is missing by itself and says what it does.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Steps print as they go; two of them at once would mix.
.NOTPARALLEL:

# rustup's directory, for shells that have not read its profile.
export PATH := $(PATH):$(HOME)/.cargo/bin
target := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Installs the Debian packages that are missing (the other targets do that too)
	@scripts/install-deps

# Asked for before anything long, not after it.
.PHONY: root
root:
	@scripts/as-root true

.PHONY: demo
demo: deps root ## Shows the whole system at work in a lab on this machine
	cargo build --release --locked -p overlane-engine -p overlane-control -p overlane-cli --bins
	scripts/as-root $(target)/release/overlane lab demo

.PHONY: test
test: deps ## Builds everything and runs every test
	@scripts/test

.PHONY: build
build: deps ## Builds the three programs, optimised, into target/release
	cargo build --release --locked -p overlane-engine -p overlane-control -p overlane-cli --bins

.PHONY: fmt
fmt: deps ## Formats the sources
	cargo fmt --all

.PHONY: lint
lint: deps ## Formatting, clippy, dependencies and documentation, warnings denied
	@scripts/lint

.PHONY: fuzz
fuzz: deps ## Fuzzes the data plane, a minute for each target (more: scripts/fuzz --seconds 3600)
	scripts/fuzz

.PHONY: fuzz-api
fuzz-api: deps ## Throws requests of every shape at the HTTP API, for a minute (more: scripts/fuzz-api --seconds 3600)
	scripts/fuzz-api

.PHONY: instructions
instructions: deps ## Counts the instructions of the packet path against benches/instructions.json (update=yes: writes it)
	scripts/instructions $(if $(update),--update)

.PHONY: bench
bench: deps root ## Runs the benches, then the rate harness (its options: RATE="--row 64B --json rates.json")
	cargo bench --locked -p overlane-benches --features rte-hash
	cargo build --release --locked -p overlane-rate
	scripts/capsule build
	scripts/as-root $(target)/release/overlane-rate $(RATE)

.PHONY: capsule
capsule: deps ## Builds and tests the second driver, on capsule (apart from everything else: engine/capsule/README.md)
	@scripts/capsule test

.PHONY: clean-lab
clean-lab: deps root ## Takes down the lab and the demo's, also what a crash left behind
	cargo build --locked -p overlane-cli --bins
	scripts/as-root $(target)/debug/overlane lab down
	scripts/as-root $(target)/debug/overlane lab --name demo down

.PHONY: clean
clean: ## Removes what was built
	cargo clean
