# Everything a newcomer, a developer and CI call. Each target installs what it needs (scripts/bootstrap.sh).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test demo crash bench-ingest bench-engine bench-windows bench-joins bench-latency bench-footprint bench-recovery data-full-year

export PATH := $(HOME)/.cargo/bin:$(PATH)
# A target directory outside the clone lets the next clone reuse the compiled dependencies.
export CARGO_TARGET_DIR ?= $(CURDIR)/target

LISTEN ?= 127.0.0.1:5433
DATA_DIR ?= ./data
CYCLES ?= 1000
SEED ?= $(shell date +%s)
BIN := $(CARGO_TARGET_DIR)/release
# `-p auspex-deps` keeps one set of dependency features, whatever is built: nothing is compiled twice.
SERVER := cargo build --release -p auspex-server -p auspex-deps --bin auspex

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, start the server on 127.0.0.1:5433 with ./data, print the psql line
	@scripts/bootstrap.sh build
	@$(SERVER)
	@echo
	@echo "  psql -h $(firstword $(subst :, ,$(LISTEN))) -p $(lastword $(subst :, ,$(LISTEN))) -U auspex auspex"
	@echo
	@exec $(BIN)/auspex server --data-dir $(DATA_DIR) --listen $(LISTEN)

test: ## everything CI runs: format, lints, documentation, unit and whole-system tests
	@scripts/bootstrap.sh build test
	@scripts/test.sh

demo: ## replay real flights through the example pipelines and print what they detect
	@scripts/bootstrap.sh build psql
	@$(SERVER)
	@scripts/demo.sh $(BIN)/auspex

crash: ## kill -9 the server CYCLES times (default 1000) and check that nothing is lost or doubled
	@scripts/bootstrap.sh build
	@$(SERVER)
	@cargo build --release -p auspex-tests -p auspex-deps --bin crashtest
	@$(BIN)/crashtest --server $(BIN)/auspex --cycles $(CYCLES) --seed $(SEED)

bench-ingest: ## durable COPY next to PostgreSQL 15's COPY
	@scripts/bootstrap.sh build psql postgres
	@$(SERVER)
	@cargo build --release -p auspex-benches -p auspex-deps --bin ingest
	@$(BIN)/ingest --server $(BIN)/auspex

bench-engine: ## filter and projection over Arrow batches in memory, rows per second and core
	@scripts/bootstrap.sh build
	@cargo build --release -p auspex-benches -p auspex-deps --bin engine
	@$(BIN)/engine

bench-windows: ## windowed aggregates over Arrow batches in memory, rows per second and core
	@scripts/bootstrap.sh build
	@cargo build --release -p auspex-benches -p auspex-deps --bin windows
	@$(BIN)/windows

bench-joins: ## interval, AS OF and look-up joins over Arrow batches in memory, next to a plain hash loop
	@scripts/bootstrap.sh build
	@cargo build --release -p auspex-benches -p auspex-deps --bin joins
	@$(BIN)/joins

bench-latency: ## INSERT to notification, next to a bare fdatasync
	@scripts/bootstrap.sh build
	@$(SERVER)
	@cargo build --release -p auspex-benches -p auspex-deps --bin latency
	@$(BIN)/latency --server $(BIN)/auspex

bench-footprint: ## start-up time, idle memory, size of the binary
	@scripts/bootstrap.sh build
	@$(SERVER)
	@cargo build --release -p auspex-benches -p auspex-deps --bin footprint
	@$(BIN)/footprint --server $(BIN)/auspex

bench-recovery: ## time to come back with 1 GB of operator state, growth of the log
	@scripts/bootstrap.sh build
	@$(SERVER)
	@cargo build --release -p auspex-benches -p auspex-deps --bin recovery
	@$(BIN)/recovery --server $(BIN)/auspex

data-full-year: ## fetch all 336,776 flights of 2013 (PyPI) into the target directory
	@scripts/bootstrap.sh python
	@scripts/flights.py --year --out $(CARGO_TARGET_DIR)/flights
