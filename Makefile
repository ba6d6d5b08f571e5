# Every command does its own set-up. `make` lists them. Works with GNU make 3.81 and newer.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help docs run demo test test-browser test-peers fuzz fuzz-pages fuzz-routes
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

test test-browser: export SCRIPT = $(RUN_TESTS)

test: .venv/.installed-dev ## run all tests, and browser journeys where a Chromium is found
	@sh -c "$$SCRIPT" test all

test-browser: .venv/.installed-dev ## run only the browser journeys
	@sh -c "$$SCRIPT" test-browser browser

test-peers: export SCRIPT = $(RUN_TESTS)

test-peers: .venv/.installed-dev .venv-peers/.installed tests/peers/node_modules/.installed ## compare with independent implementations of the gateways
	@sh -c "$$SCRIPT" test-peers peers

fuzz: .venv/.installed-dev ## search HISTORIES of payments for one that breaks the books, anew each time
	@SEED=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "Searching $(or $(HISTORIES),20000) histories; this search again: make fuzz SEED=$$SEED"; \
	PAYMENT_FUZZ=$(or $(HISTORIES),20000) exec $(PYTHON_IN_VENV) -m pytest -n logical --maxprocesses 3 \
	    tests/properties/test_*_payments.py --hypothesis-seed=$$SEED $(ARGS)

fuzz-pages: .venv/.installed-dev ## send every widget of every page values that no browser sends
	@FORGED_WIDGETS=1000 exec $(PYTHON_IN_VENV) -m pytest tests/security/test_forged_widgets.py $(ARGS)

fuzz-routes: .venv/.installed-dev ## send REQUESTS to every own route that no browser sends, anew each time
	@SEED=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "Sending $(or $(REQUESTS),20000) requests; the same again: make fuzz-routes SEED=$$SEED"; \
	FUZZ_REQUESTS=$(or $(REQUESTS),20000) FUZZ_SEED=$$SEED exec $(PYTHON_IN_VENV) -m pytest \
	    tests/security/test_fuzz_routes.py -s $(ARGS)

docs: .venv/.installed ## make the pages of docs/ that are generated from code
	@$(PYTHON_IN_VENV) -m portal permissions > docs/permissions.md
	@$(PYTHON_IN_VENV) -m portal chart-of-accounts > docs/chart-of-accounts.md

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

# What only Python in a browser needs is left out of what is locked.
LOCK := .venv-tools/bin/python -m uv pip compile --quiet --universal --python-version 3.11 \
    --generate-hashes --no-emit-package httpx2-jsfetch $(if $(filter yes,$(UPGRADE)),--upgrade)

lock: .venv-tools/.installed ## resolve requirements*.in into requirements*.txt, with hashes; UPGRADE=yes
	@for name in requirements requirements-dev requirements-peers requirements-tools; do \
	    UV_CUSTOM_COMPILE_COMMAND='make lock' $(LOCK) $$name.in --output-file $$name.txt || exit 1; \
	done

notices: .venv/.installed ## write THIRD_PARTY_NOTICES anew from what is installed; on Linux
	@$(PYTHON_IN_VENV) -m scripts.notices > THIRD_PARTY_NOTICES.new
	@mv THIRD_PARTY_NOTICES.new THIRD_PARTY_NOTICES

audit: .venv-tools/.installed ## look for known vulnerabilities of packages, and for faults of our code
	@.venv-tools/bin/python -m scripts.audit

clean: export SCRIPT = $(CLEAN)
clean: export STOP = $(STOP_DATABASE)
clean: ## stop the database and remove .venv and caches; DATA=yes removes the data too
	@sh -c "$$SCRIPT" clean

# ── Set-up ────────────────────────────────────────────────────────────────────────────────────

.venv/.installed .venv/.installed-dev: export SCRIPT = $(SET_UP)

.venv/.installed: requirements.txt $(OUTDATED)
	@sh -c "$$SCRIPT" set-up requirements.txt
	@touch $@

.venv/.installed-dev: requirements.txt requirements-dev.txt $(OUTDATED)
	@sh -c "$$SCRIPT" set-up requirements-dev.txt
	@touch .venv/.installed $@

.venv-peers/.installed: requirements-peers.txt .venv/.installed-dev
	@.venv/bin/python -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
	    -r requirements-peers.txt </dev/null
	@touch $@

.venv-tools/.installed: requirements-tools.txt .venv/.installed
	@.venv/bin/python -m venv --clear .venv-tools
	@.venv-tools/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
	    -r requirements-tools.txt </dev/null
	@touch $@

tests/peers/node_modules/.installed: tests/peers/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is needed: apt install nodejs npm' >&2; exit 1; }
	@npm ci --prefix tests/peers --silent --no-audit --no-fund </dev/null
	@touch $@

define SET_UP
set -eu

fail() {
    printf '\n' >&2
    printf '%s\n' "$$@" >&2
    exit 1
}

install_command() {
    if [ "$$(id -u)" = 0 ]; then echo "apt install $$1"; else echo "sudo apt install $$1"; fi
}

# Prints version, whether pip can be put into a new environment, and where it is.
describe='
import importlib.util, sys
version = "%d.%d" % sys.version_info[:2]
pip = "pip" if importlib.util.find_spec("ensurepip") else "no-pip"
print("old" if sys.version_info < (3, 11) else pip, version, sys.executable)
'

find_python() {
    old= bare=
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        name=$${PYTHON:-$$name}
        found=$$("$$name" -c "$$describe" 2>/dev/null) || continue
        case $$found in
            "pip "*) python=$$name; version=$${found#pip }; version=$${version%% *}; return ;;
            "no-pip "*) bare=$${bare:-$${found#no-pip }} ;;
            "old "*) old=$${old:-$${found#old }} ;;
        esac
    done
    if [ -n "$$bare" ] && command -v apt-get >/dev/null; then
        fail "Python $${bare%% *} ($${bare#* }) lacks a part that makes virtual environments. Run:" \
            "    $$(install_command "python$${bare%% *}-venv")"
    elif [ -n "$$bare" ]; then
        fail "Python $${bare%% *} ($${bare#* }) lacks the module ensurepip, which makes virtual" \
            "environments. Install it: it comes with Python or is called python-venv."
    fi
    if [ -n "$${PYTHON:-}" ] && [ -z "$$old" ]; then fail "PYTHON=$$PYTHON is no Python."; fi
    [ -z "$$old" ] || echo "Python $${old%% *} ($${old#* }) is too old." >&2
    if command -v apt-get >/dev/null; then
        fail 'Python 3.11 or newer is needed. For instance:' \
            "    $$(install_command 'python3.11 python3.11-venv')"
    fi
    fail 'Python 3.11 or newer is needed: install it from your system, or from www.python.org.' \
        'If it has an unusual name, say it: make PYTHON=/path/to/python ...'
}

if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    find_python
    echo "Making a virtual environment in .venv with Python $$version"
    "$$python" -m venv --clear .venv || fail 'Python could not make .venv: see above.'
fi

echo "Installing what $$1 names (minutes the first time, then seconds)"
log=.venv/pip.log
if ! .venv/bin/python -m pip install --no-input --no-user --disable-pip-version-check \
    --progress-bar off -r "$$1" >"$$log" 2>&1 </dev/null
then
    grep -E '^ *(ERROR|error):' "$$log" >&2 || tail -n 20 "$$log" >&2
    if grep -qE 'connection broken|from versions: none|Timeout|ProxyError|SSLError' "$$log"; then
        fail 'The package index cannot be reached. Packages are needed once: check the network,' \
            'and the settings of a proxy (HTTPS_PROXY) or of your own index (PIP_INDEX_URL).'
    elif grep -q 'DO NOT MATCH THE HASHES' "$$log"; then
        fail "A package is not the file that $$1 locks; $$log names it. Nothing of it was installed." \
            'Ask where it came from before anything else: an index of your own, a proxy, a cache?'
    elif grep -qE 'No space left|Disk quota' "$$log"; then
        fail 'The disk is full: the packages need about 1 GB.'
    fi
    fail "pip could not install everything; all that it said is in $$log." \
        'Where a package is not ready for this Python, choose another: make PYTHON=python3.13 ...'
fi
endef

# ── Tests ─────────────────────────────────────────────────────────────────────────────────────

define RUN_TESTS
set -eu

# A browser from a snap is left out: it may not see the folders that a journey gives it.
find_chromium() {
    for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable \
        '/Applications/Chromium.app/Contents/MacOS/Chromium' \
        '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'
    do
        found=$$(command -v "$$name") || continue
        case $$found in /snap/*) continue ;; esac
        if [ "$$(head -c 2 "$$found")" = '#!' ] && grep -q /snap/ "$$found"; then continue; fi
        echo "$$found"
        return
    done
}

if [ "$$1" = peers ]; then
    unset SCRIPT
    exec .venv/bin/python -m pytest -m peers $(ARGS)
fi

only= without='not peers'
if [ "$$1" = browser ]; then only=browser; fi
CHROMIUM=$${CHROMIUM:-$$(find_chromium)}
if [ -n "$$CHROMIUM" ]; then
    if ! command -v "$$CHROMIUM" >/dev/null; then
        echo "CHROMIUM=$$CHROMIUM is no program." >&2
        exit 1
    fi
    export CHROMIUM
elif [ -n "$$only" ]; then
    echo 'The journeys need Chromium: install it, or set CHROMIUM=/path/to/it.' >&2
    exit 1
else
    without="$$without and not browser"
    echo 'No Chromium found: the browser journeys are left out (CHROMIUM=/path/to/it runs them).'
fi

if [ -z "$$only" ] && ! command -v soffice >/dev/null; then
    without="$$without and not office"
    echo 'No LibreOffice found: the test that opens a file in it is left out.'
fi

unset SCRIPT
# Each process has a database and a portal of its own; a file's tests stay together, and files that
# take minutes start first.
exec .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
    -m "$${only:-$$without}" $(ARGS)
endef

# ── Clean ─────────────────────────────────────────────────────────────────────────────────────

define CLEAN
set -eu

data=$${DATA_DIR:-.data}
if [ -e "$$data/startup.lock" ]; then
    if [ -x .venv/bin/python ]; then
        .venv/bin/python -c "$$STOP" "$$data" "$${DATA:-}"
    elif [ "$${DATA:-}" = yes ]; then
        echo 'Without .venv the database cannot be stopped: run  make .venv/.installed  first.' >&2
        exit 1
    fi
    if [ "$${DATA:-}" = yes ]; then
        echo "Removed the data in $$data"
    else
        echo "Keeping the data in $$data (make clean DATA=yes removes it)"
    fi
fi
echo 'Removing .venv and caches'
rm -rf .venv .venv-peers .venv-tools tests/peers/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .ci/reports
find . -name __pycache__ -type d -prune -exec rm -rf {} +
endef

define STOP_DATABASE
import sys
from pathlib import Path

from db.embedded.server import EmbeddedPostgresError, remove, stop

try:
    (remove if sys.argv[2] == "yes" else stop)(Path(sys.argv[1]))
except EmbeddedPostgresError as error:
    sys.exit(str(error))
endef
