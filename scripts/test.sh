#!/usr/bin/env bash
# Run all tests, in two processes side by side: those that compute, and those that mostly wait for processes. The second also
# look at all sandboxes of the machine, and stay one after another. The output of the first comes at the end.
#
# Usage: scripts/test.sh [PYTEST_OPTION...]
set -uo pipefail
cd "$(dirname "$0")/.."

BIN=${VENV:-.venv}/bin
COMPUTING=(tests/benchmarks tests/trainer)
LOG=$(mktemp)

"$BIN/python" -m pytest "${COMPUTING[@]}" "$@" >"$LOG" 2>&1 &
FIRST=$!
trap 'kill "$FIRST" 2>/dev/null; rm -f "$LOG"' EXIT

"$BIN/python" -m pytest "${COMPUTING[@]/#/--ignore=}" "$@"
WAITED=$?
wait "$FIRST"
COMPUTED=$?
echo
echo "${COMPUTING[*]}:"
cat "$LOG"
[ "$WAITED" = 0 ] && [ "$COMPUTED" = 0 ]
