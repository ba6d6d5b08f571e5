#!/bin/sh
# Resolves requirements*.in into requirements*.txt, with hashes; UPGRADE=yes takes the newest versions.
set -eu

if [ "${UPGRADE:-}" = yes ]; then set -- --upgrade; else set --; fi
UV_CUSTOM_COMPILE_COMMAND='make lock'
export UV_CUSTOM_COMPILE_COMMAND
# What only Python in a browser needs is left out of what is locked.
for name in requirements requirements-dev requirements-peers requirements-tools; do
    .venv-tools/bin/python -m uv pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-package httpx2-jsfetch "$@" \
        "$name.in" --output-file "$name.txt"
done
