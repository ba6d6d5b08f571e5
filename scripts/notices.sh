#!/bin/sh
# Writes THIRD_PARTY_NOTICES anew; where that fails, the old one stays.
set -eu

.venv/bin/python -m scripts.notices >THIRD_PARTY_NOTICES.new
mv THIRD_PARTY_NOTICES.new THIRD_PARTY_NOTICES
