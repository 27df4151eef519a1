#!/usr/bin/env bash
# Run the tests that need Docker on a private engine: its own socket, data and control groups, gone afterwards.
# The system's engine is neither used nor started. Needs root, and the environment of setup.sh --tests.
#
# Usage: scripts/docker_test.sh [PYTEST_ARGUMENT...]   (default: -m docker tests/sandbox tests/e2e)
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${VENV:-.venv}/bin
PACKAGES=(docker.io containerd runc debootstrap)
POLICY=/usr/sbin/policy-rc.d

lacks_engine() { "$BIN/python" -c 'import sys; from tests.docker_engine import lacks_engine; sys.exit(lacks_engine() or 0)'; }

# Debian would start the system's engine on installing it; a policy of our own forbids that meanwhile.
install_engine() {
    echo "docker-test: installing ${PACKAGES[*]}"
    local ours=
    [ -e "$POLICY" ] || { ours=yes && printf '#!/bin/sh\nexit 101\n' >"$POLICY" && chmod +x "$POLICY"; }
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${PACKAGES[@]}"; } \
        >/dev/null || echo "docker-test: apt-get failed" >&2
    [ ! "$ours" ] || rm -f "$POLICY"
}

if ! lacks_engine 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    install_engine
fi
lacks_engine || {
    echo "docker-test: on Debian as root: apt-get install --no-install-recommends ${PACKAGES[*]}" >&2
    exit 1
}
[ $# -gt 0 ] || set -- -m docker tests/sandbox tests/e2e
exec "$BIN/python" -m tests.docker_engine "$BIN/python" -m pytest "$@"
