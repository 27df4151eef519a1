#!/usr/bin/env bash
# Write the lock files of locks/ from the requirements files, with uv in an environment that is thrown away.
#
# Versions already locked stay unless a requirement rules them out; pass --upgrade or --upgrade-package NAME to move them.
# torch's CPU wheel is on no default index: set UV_FIND_LINKS or UV_INDEX to where this machine has it. That wheel is
# installed by its exact version alone (locks/torch-cpu.txt), since its hash differs from one platform to the next.
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
LEAN=(--override locks/overrides.txt --no-emit-package torch)
compile locks/cpu.txt requirements-cpu.txt "${LEAN[@]}" "${OPTIONS[@]}"
compile locks/dev.txt requirements-dev.txt --constraint locks/cpu.txt "${OPTIONS[@]}"
compile locks/bench.txt requirements-bench.txt --no-emit-package torch "${OPTIONS[@]}"
compile locks/node.txt requirements-node.txt "${OPTIONS[@]}"
# The data package's code, which would need these two, never runs.
printf '%s; sys_platform == "never"\n' llm llama-cpp-python >"$TOOL/overrides.txt"
compile locks/gpu.txt requirements-gpu.txt --override "$TOOL/overrides.txt" "${OPTIONS[@]}"
grep --no-filename '^torch==' requirements-cpu.txt >locks/torch-cpu.txt
