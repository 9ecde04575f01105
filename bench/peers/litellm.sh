#!/bin/sh
# Installs LiteLLM's proxy from PyPI into an environment of its own: bench/build/litellm-venv (some hundred MB, minutes).
# PYTHON names the interpreter; the whole install is bounded by 20 minutes.
set -eu
build="$(cd "$(dirname "$0")/.." && pwd)/build"
venv="$build/litellm-venv"
mkdir -p "$build"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
timeout 1200 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "litellm[proxy]==1.106.2"
"$venv/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep -i '^litellm '
