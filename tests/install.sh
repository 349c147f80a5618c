#!/usr/bin/env bash
# Makes sure that the programs that the tests run are there: installs Debian's packages as root, else
# says what is missing.
set -euo pipefail

missing=()
need() { # program, Debian package
  command -v "$1" >/dev/null || missing+=("$2")
}

need node nodejs
need npm npm
need python3 python3-venv
need redis-server redis-server
need chromium chromium
need openssl openssl

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "The tests need these programs; install them and run this again: ${missing[*]}" >&2
    exit 1
  fi
fi

node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || {
  echo "The tests need Node.js 20 or newer; this is $(node --version)." >&2
  exit 1
}
