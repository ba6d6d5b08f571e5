#!/bin/sh
# fuzz.sh payments|routes [WORDS FOR PYTEST]: a search that is another one each time, and that SEED repeats.
set -eu

which=$1
shift
SEED=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
if [ "$which" = payments ]; then
    PAYMENT_FUZZ=${HISTORIES:-20000}
    export PAYMENT_FUZZ
    echo "Searching $PAYMENT_FUZZ histories; this search again: make fuzz SEED=$SEED"
    exec .venv/bin/python -m pytest -n logical --maxprocesses 3 \
        tests/properties/test_*_payments.py --hypothesis-seed="$SEED" "$@"
fi
FUZZ_REQUESTS=${REQUESTS:-20000} FUZZ_SEED=$SEED
export FUZZ_REQUESTS FUZZ_SEED
echo "Sending $FUZZ_REQUESTS requests; the same again: make fuzz-routes SEED=$SEED"
exec .venv/bin/python -m pytest tests/security/test_fuzz_routes.py -s "$@"
