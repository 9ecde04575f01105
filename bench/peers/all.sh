#!/bin/sh
# Installs every peer that can be, one after the other (some ten minutes), and names those that could not be.
set -u
here="$(cd "$(dirname "$0")" && pwd)"
failed=""
for script in "$here"/*.sh; do
    name="$(basename "$script" .sh)"
    [ "$name" = all ] || sh "$script" || failed="$failed $name"
done
[ -z "$failed" ] || { echo "not installed:$failed" >&2; exit 1; }
