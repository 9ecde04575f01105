#!/bin/sh
# Installs Portkey's gateway from npm into bench/build/portkey (some 30 MB). Needs node (20 or newer) and npm.
# Bounded by 10 minutes.
#
# @hono/node-server is held at 1.13.5, which the lock file of the gateway's repository names: with newer ones that its
# package.json allows, every stream is answered with 500 (https://github.com/Portkey-AI/gateway/issues/1389).
set -eu
build="$(cd "$(dirname "$0")/.." && pwd)/build"
mkdir -p "$build/portkey"
cat > "$build/portkey/package.json" <<'JSON'
{
  "private": true,
  "dependencies": { "@portkey-ai/gateway": "1.15.2" },
  "overrides": { "@hono/node-server": "1.13.5" }
}
JSON
cd "$build/portkey"
timeout 600 npm install --ignore-scripts --no-audit --no-fund --loglevel error
node -p '"@portkey-ai/gateway " + require("./node_modules/@portkey-ai/gateway/package.json").version'
