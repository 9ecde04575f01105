#!/bin/sh
# Makes .venv if it is not there or no longer works, and installs the project into it, editable. Usage: scripts/venv.sh [EXTRA]
# With uv when it is there; with venv and pip otherwise, also when pip is configured for an index, a proxy or a certificate
# (uv does not read pip's configuration) and when uv fails.
# Nothing outside .venv and the installers' own caches is written.
set -eu
cd "$(dirname "$0")/.."
what=".${1:+[$1]}"
venv_python=.venv/bin/python
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

pip_is_configured() {
    "$1" -m pip config list 2>/dev/null | grep -Eq 'index|find-links|proxy|cert'
}

install_with_uv() {
    command -v uv >/dev/null || return 1
    ! pip_is_configured "$(find_python || echo python3)" || return 1
    new_enough "$venv_python" || uv venv --quiet --clear --python "$(find_python || echo '>=3.11')" .venv || return 1
    uv pip install --quiet --python "$venv_python" --editable "$what"
}

make_venv() {
    if ! python=$(find_python); then
        echo "infermux needs Python 3.11 or newer, and none was found as python3, python3.11 ... python3.14 or python." >&2
        echo "Install one (https://www.python.org/downloads/), or name yours: make PYTHON=/path/to/python3" >&2
        exit 1
    fi
    if ! "$python" -m venv --clear .venv; then
        echo "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
}

install_with_pip() {
    # A .venv that uv made has no pip.
    { new_enough "$venv_python" && "$venv_python" -m pip --version >/dev/null 2>&1; } || make_venv
    "$venv_python" -m pip install --quiet --disable-pip-version-check --editable "$what"
}

echo "Installing infermux${1:+ with what its development needs} into .venv (once; a minute or two the first time)"
install_with_uv || install_with_pip
