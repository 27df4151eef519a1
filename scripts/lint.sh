#!/usr/bin/env bash
# Run every static check of the project, all of them even when one fails. Needs the environment of setup.sh --tests.
set -uo pipefail
cd "$(dirname "$0")/.."

BIN=$(cd "${VENV:-.venv}" && pwd)/bin || exit 1
PATH=$BIN:$PATH
FAILED=()

check() { # NAME COMMAND [ARGUMENT...]
    local name=$1
    shift
    printf '%s: ' "$name"
    "$@" || FAILED+=("$name")
}

templates() { find templates webapp -name '*.html' -print0 2>/dev/null | xargs -0 -r djade --target-version 5.2 --check; }

# Where a file counts as first-party depends on the tree around it, of which ruff's cache does not know.
check ruff ruff check --quiet --no-cache . && echo ok
check format ruff format --check
check mypy mypy
check layers lint-imports --no-logo
check templates templates
check migrations python manage.py makemigrations --check --dry-run

[ ${#FAILED[@]} -eq 0 ] || { echo "lint failed: ${FAILED[*]}" >&2; exit 1; }
