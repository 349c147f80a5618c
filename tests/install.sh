#!/usr/bin/env bash
# Checks that the programs that the tests and linters run are installed. As root on Debian it installs the
# missing ones; otherwise it names them.
set -euo pipefail

missing=()
need() { # program, Debian package
  command -v "$1" >/dev/null || missing+=("$2")
}

need node nodejs
need npm npm
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
need redis-server redis-server
[ -x "${CHROMIUM:-}" ] || need chromium chromium
need openssl openssl

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "install these Debian packages, or what your system calls them, and try again: ${missing[*]}" >&2
    exit 1
  fi
fi

node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || {
  echo "the tests need Node.js 20 or newer; this is $(node --version)" >&2
  exit 1
}
