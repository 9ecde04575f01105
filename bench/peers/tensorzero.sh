#!/bin/sh
# Installs TensorZero's package from PyPI, which carries its gateway, into bench/build/tensorzero-venv (some 130 MB).
# PYTHON names the interpreter; the whole install is bounded by 10 minutes.
set -eu
build="$(cd "$(dirname "$0")/.." && pwd)/build"
venv="$build/tensorzero-venv"
mkdir -p "$build"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
timeout 600 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check tensorzero==2026.6.0
"$venv/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -i '^tensorzero '
