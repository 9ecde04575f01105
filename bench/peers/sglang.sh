#!/bin/sh
# Installs the SGLang router (Rust) from PyPI into bench/build/sglang-venv (some 100 MB).
# PYTHON names the interpreter; the whole install is bounded by 10 minutes.
set -eu
build="$(cd "$(dirname "$0")/.." && pwd)/build"
venv="$build/sglang-venv"
mkdir -p "$build"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
timeout 600 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check sglang-router==0.3.2
"$venv/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -i '^sglang-router '
