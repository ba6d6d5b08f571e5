#!/bin/sh
# Stops the database and removes .venv and caches; with DATA=yes the data too.
set -eu

data=${DATA_DIR:-.data}
if [ -e "$data/startup.lock" ]; then
    if [ -x .venv/bin/python ]; then
        .venv/bin/python -m scripts.stop_database "$data" "${DATA:-}"
    elif [ "${DATA:-}" = yes ]; then
        echo 'Without .venv the database cannot be stopped: run  make .venv/.installed  first.' >&2
        exit 1
    fi
    if [ "${DATA:-}" = yes ]; then
        echo "Removed the data in $data"
    else
        echo "Keeping the data in $data (make clean DATA=yes removes it)"
    fi
fi
echo 'Removing .venv and caches'
rm -rf .venv .venv-peers .venv-tools tests/peers/node_modules .ci/reports \
    .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
find . -name __pycache__ -type d -prune -exec rm -rf {} +
