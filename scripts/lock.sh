#!/usr/bin/env bash
# Write the lock files of locks/ from the requirements files, with uv in an environment that is thrown away.
#
# Versions already locked stay unless a requirement rules them out; --upgrade or --upgrade-package NAME
# moves them. torch's CPU wheel is on no default index: set UV_FIND_LINKS or UV_INDEX to where it is.
# It is installed by its exact version alone (locks/torch-cpu.txt), for its hash could not be checked
# against the publisher's.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOL=$(mktemp -d)
trap 'rm -rf "$TOOL"' EXIT
"${PYTHON:-python3.11}" -m venv "$TOOL"
"$TOOL/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9

compile() { # OUTPUT INPUT [ARGUMENT...]
    local output=$1 input=$2
    shift 2
    echo "$output"
    "$TOOL/bin/uv" pip compile "$input" --quiet --output-file "$output" --generate-hashes --no-header \
        --annotation-style line --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@" >/dev/null
}

OPTIONS=("$@")
LEAN=(--override locks/overrides.txt)
CPU=(--override locks/overrides-cpu.txt --no-emit-package torch)
compile locks/cpu.txt requirements-cpu.txt "${LEAN[@]}" "${CPU[@]}" "${OPTIONS[@]}"
compile locks/web.txt requirements-web.txt --constraint locks/cpu.txt "${OPTIONS[@]}"
compile locks/dev.txt requirements-dev.txt --constraint locks/cpu.txt "${OPTIONS[@]}"
compile locks/bench.txt requirements-bench.txt "${CPU[@]}" "${OPTIONS[@]}"
compile locks/node.txt requirements-node.txt "${OPTIONS[@]}"
# With the CPU wheel in sight, uv would take it here too.
unset UV_FIND_LINKS UV_INDEX
compile locks/gpu.txt requirements-gpu.txt "${LEAN[@]}" "${OPTIONS[@]}"
grep --no-filename '^torch==' requirements-cpu.txt >locks/torch-cpu.txt
