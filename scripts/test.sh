#!/bin/sh
# test.sh all|browser|peers|postgresql [WORDS FOR PYTEST]: runs what this machine has the programs for.
set -eu

# A browser from a snap is left out: it may not see the folders that a journey gives it.
find_chromium() {
    for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable \
        '/Applications/Chromium.app/Contents/MacOS/Chromium' \
        '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'
    do
        found=$(command -v "$name") || continue
        case $found in /snap/*) continue ;; esac
        if [ "$(head -c 2 "$found")" = '#!' ] && grep -q /snap/ "$found"; then continue; fi
        echo "$found"
        return
    done
}

which=$1
shift
if [ "$which" = peers ]; then
    exec .venv/bin/python -m pytest -m peers "$@"
fi

if [ "$which" = postgresql ]; then
    if [ ! -x "${PG_BIN:-}/postgres" ]; then
        echo 'Set PG_BIN to the folder of a PostgreSQL, such as /usr/lib/postgresql/15/bin.' >&2
        exit 1
    fi
    "$PG_BIN/postgres" --version
    exec .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile \
        tests/integration/ledger/test_ledger_*.py tests/integration/ledger/test_journal.py \
        tests/integration/database/test_database.py tests/integration/database/test_fresh_databases.py "$@"
fi

only= without='not peers'
if [ "$which" = browser ]; then only=browser; fi
CHROMIUM=${CHROMIUM:-$(find_chromium)}
if [ -n "$CHROMIUM" ]; then
    if ! command -v "$CHROMIUM" >/dev/null; then
        echo "CHROMIUM=$CHROMIUM is no program." >&2
        exit 1
    fi
    export CHROMIUM
elif [ -n "$only" ]; then
    echo 'The journeys need Chromium: install it, or set CHROMIUM=/path/to/it.' >&2
    exit 1
else
    without="$without and not browser"
    echo 'No Chromium found: the browser journeys are left out (CHROMIUM=/path/to/it runs them).'
fi

if [ -z "$only" ] && ! command -v soffice >/dev/null; then
    without="$without and not office"
    echo 'No LibreOffice found: the test that opens a file in it is left out.'
fi

if [ -z "$only" ] && [ ! -d ../shared ]; then
    without="$without and not shared"
    echo 'No ../shared found: the tests that read real documents and traces there are left out.'
fi

# Each process has a database and a portal of its own; a file's tests stay together, and files that
# take minutes start first.
exec .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
    -m "${only:-$without}" "$@"
