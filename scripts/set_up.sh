#!/bin/sh
# set_up.sh REQUIREMENTS: makes .venv where it is missing or too old, and installs into it.
set -eu

requirements=$1

fail() {
    printf '\n' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

install_command() {
    if [ "$(id -u)" = 0 ]; then echo "apt install $1"; else echo "sudo apt install $1"; fi
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
        name=${PYTHON:-$name}
        found=$("$name" -c "$describe" 2>/dev/null) || continue
        case $found in
            "pip "*) python=$name; version=${found#pip }; version=${version%% *}; return ;;
            "no-pip "*) bare=${bare:-${found#no-pip }} ;;
            "old "*) old=${old:-${found#old }} ;;
        esac
    done
    if [ -n "$bare" ] && command -v apt-get >/dev/null; then
        fail "Python ${bare%% *} (${bare#* }) lacks a part that makes virtual environments. Run:" \
            "    $(install_command "python${bare%% *}-venv")"
    elif [ -n "$bare" ]; then
        fail "Python ${bare%% *} (${bare#* }) lacks the module ensurepip, which makes virtual" \
            "environments. Install it: it comes with Python or is called python-venv."
    fi
    if [ -n "${PYTHON:-}" ] && [ -z "$old" ]; then fail "PYTHON=$PYTHON is no Python."; fi
    [ -z "$old" ] || echo "Python ${old%% *} (${old#* }) is too old." >&2
    if command -v apt-get >/dev/null; then
        fail 'Python 3.11 or newer is needed. For instance:' \
            "    $(install_command 'python3.11 python3.11-venv')"
    fi
    fail 'Python 3.11 or newer is needed: install it from your system, or from www.python.org.' \
        'If it has an unusual name, say it: make PYTHON=/path/to/python ...'
}

if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    find_python
    echo "Making a virtual environment in .venv with Python $version"
    "$python" -m venv --clear .venv || fail 'Python could not make .venv: see above.'
fi

echo "Installing what $requirements names (minutes the first time, then seconds)"
log=.venv/pip.log
if ! .venv/bin/python -m pip install --no-input --no-user --disable-pip-version-check \
    --progress-bar off -r "$requirements" >"$log" 2>&1 </dev/null
then
    grep -E '^ *(ERROR|error):' "$log" >&2 || tail -n 20 "$log" >&2
    if grep -qE 'connection broken|from versions: none|Timeout|ProxyError|SSLError' "$log"; then
        fail 'The package index cannot be reached. Packages are needed once: check the network,' \
            'and the settings of a proxy (HTTPS_PROXY) or of your own index (PIP_INDEX_URL).'
    elif grep -q 'DO NOT MATCH THE HASHES' "$log"; then
        fail "A package is not the file that $requirements locks; $log names it. Nothing of it was installed." \
            'Ask where it came from before anything else: an index of your own, a proxy, a cache?'
    elif grep -qE 'No space left|Disk quota' "$log"; then
        fail 'The disk is full: the packages need about 1 GB.'
    fi
    fail "pip could not install everything; all that it said is in $log." \
        'Where a package is not ready for this Python, choose another: make PYTHON=python3.13 ...'
fi
