# Every command does its own set-up. `make` lists them. Works with GNU make 3.81 and newer.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help docs messages run demo test test-browser test-peers test-postgresql
.PHONY: fuzz fuzz-pages fuzz-routes
.PHONY: check lint types layers format bench
.PHONY: lock notices audit clean outdated

# A Python that someone set up for other work must not leak into ours.
unexport PYTHONHOME
unexport PYTHONPATH

PYTHON_IN_VENV := .venv/bin/python

# A virtual environment whose Python was removed or is too old is made again.
VERSION_FITS := import sys; print(sys.version_info >= (3, 11))
ifneq ($(shell test -x $(PYTHON_IN_VENV) && $(PYTHON_IN_VENV) -ISc '$(VERSION_FITS)' 2>/dev/null),True)
OUTDATED := outdated
endif

help:
	@echo 'make COMMAND [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk -F '#: ' '/^#: / { print "  " $$2 }' Makefile

#: PORT                    where the portal listens (8501)
#: HOST                    the address that it listens on (127.0.0.1)
#: DATA_DIR                where its own PostgreSQL keeps its files (.data)
#: PG_BIN                  the programs of the PostgreSQL that it runs by (docs/operations.md)
#: DATABASE_URL            a PostgreSQL of yours, 15 or newer, instead
#: MIGRATION_DATABASE_URL  the same database as the tables' owner
#: PYTHON                  the Python to use (the newest that is found)
#: CHROMIUM                the browser for the journeys (the one that is found)
#: HISTORIES               how many histories make fuzz searches (20000); SEED repeats a search
#: REQUESTS                how many requests make fuzz-routes sends (20000); SEED repeats them
#: UPGRADE                 yes: make lock takes the newest of what our requirements need
#: ARGS                    more words for pytest or the benchmarks, such as ARGS="-k ledger"

# ── Commands ──────────────────────────────────────────────────────────────────────────────────

run: .venv/.installed ## start the portal, with sample accounts where it has its own database
	@exec $(PYTHON_IN_VENV) -m portal serve

demo: .venv/.installed ## load the sample accounts and their usage
	@exec $(PYTHON_IN_VENV) -m portal demo

test: .venv/.installed-dev ## run all tests, and browser journeys where a Chromium is found
	@exec sh scripts/test.sh all $(ARGS)

test-browser: .venv/.installed-dev ## run only the browser journeys
	@exec sh scripts/test.sh browser $(ARGS)

test-peers: .venv/.installed-dev .venv-peers/.installed tests/peers/node_modules/.installed ## compare with independent implementations of the gateways
	@exec sh scripts/test.sh peers $(ARGS)

test-postgresql: .venv/.installed-dev ## run the tests of the ledger on the PostgreSQL in PG_BIN
	@exec sh scripts/test.sh postgresql $(ARGS)

fuzz: .venv/.installed-dev ## search HISTORIES of payments for one that breaks the books, anew each time
	@exec sh scripts/fuzz.sh payments $(ARGS)

fuzz-pages: .venv/.installed-dev ## send every widget of every page values that no browser sends
	@FORGED_WIDGETS=1000 exec $(PYTHON_IN_VENV) -m pytest tests/security/test_forged_widgets.py $(ARGS)

fuzz-routes: .venv/.installed-dev ## send REQUESTS to every own route that no browser sends, anew each time
	@exec sh scripts/fuzz.sh routes $(ARGS)

docs: .venv/.installed ## make the pages of docs/ that are generated from code
	@$(PYTHON_IN_VENV) -m portal permissions > docs/permissions.md
	@$(PYTHON_IN_VENV) -m portal chart-of-accounts > docs/chart-of-accounts.md

messages: .venv/.installed ## write portal/locale/messages.pot, the texts for translators
	@$(PYTHON_IN_VENV) -m scripts.messages > portal/locale/messages.pot.new
	@mv portal/locale/messages.pot.new portal/locale/messages.pot

check: lint types layers test ## everything that must hold before a commit

lint: .venv/.installed-dev ## look for mistakes and bad form
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .

types: .venv/.installed-dev ## check types
	@$(PYTHON_IN_VENV) -m mypy

layers: .venv/.installed-dev ## check that imports go one way: portal, domain, db
	@$(PYTHON_IN_VENV) .venv/bin/lint-imports --no-logo

format: .venv/.installed-dev ## put code into form
	@$(PYTHON_IN_VENV) -m ruff check --fix --quiet . || true
	@$(PYTHON_IN_VENV) -m ruff format .

bench: .venv/.installed ## measure, each figure as a ratio to its yardstick
	@exec $(PYTHON_IN_VENV) -m benchmarks $(ARGS)

lock: .venv-tools/.installed ## resolve requirements*.in into requirements*.txt, with hashes; UPGRADE=yes
	@exec sh scripts/lock.sh

notices: .venv/.installed ## write THIRD_PARTY_NOTICES anew from what is installed; on Linux
	@exec sh scripts/notices.sh

audit: .venv-tools/.installed ## look for known vulnerabilities of packages, and for faults of our code
	@.venv-tools/bin/python -m scripts.audit

clean: ## stop the database and remove .venv and caches; DATA=yes removes the data too
	@exec sh scripts/clean.sh

# ── Set-up ────────────────────────────────────────────────────────────────────────────────────

.venv/.installed: requirements.txt $(OUTDATED)
	@sh scripts/set_up.sh requirements.txt
	@touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt $(OUTDATED)
	@sh scripts/set_up.sh requirements-dev.txt
	@touch .venv/.installed $@

.venv-peers/.installed: requirements-peers.txt .venv/.installed-dev
	@sh scripts/environment.sh .venv-peers requirements-peers.txt
	@touch $@

.venv-tools/.installed: requirements-tools.txt .venv/.installed
	@sh scripts/environment.sh .venv-tools requirements-tools.txt
	@touch $@

tests/peers/node_modules/.installed: tests/peers/package-lock.json
	@sh scripts/npm_peers.sh
	@touch $@
