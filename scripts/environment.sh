#!/bin/sh
# environment.sh FOLDER REQUIREMENTS: makes a virtual environment beside .venv, anew.
set -eu

.venv/bin/python -m venv --clear "$1"
"$1/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$2" </dev/null
