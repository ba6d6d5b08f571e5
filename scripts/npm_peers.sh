#!/bin/sh
# Installs the peers that npm has, as tests/peers/package-lock.json locks them.
set -eu

command -v npm >/dev/null || { echo 'npm is needed: apt install nodejs npm' >&2; exit 1; }
npm ci --prefix tests/peers --silent --no-audit --no-fund </dev/null
