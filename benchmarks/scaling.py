"""`python -m benchmarks.scaling [--small] [--again]`: what an update costs as rollouts, groups and batches grow.

Each cell runs in a process of its own (`benchmarks.scaling_cell`) and is written down at once, so a run that was cut goes on
with the cells that are missing. A small random model and random tokens: no engine, no sandboxes, nothing to download.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, versions
from benchmarks.scaling_cell import HeadCell, UpdateCell

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "scaling.json"
Cell = UpdateCell | HeadCell

GRID: tuple[Cell, ...] = (
    *(UpdateCell(sweep="context", context=n * 1024) for n in (1, 2, 4, 8, 16)),
    *(UpdateCell(sweep="group size", context=2048, group_size=n) for n in (2, 4, 8, 16, 32)),
    *(UpdateCell(sweep="batch", context=1024, num_groups=n) for n in (4, 8, 16, 32)),
    *(
        UpdateCell(sweep="token budget", context=1024, num_groups=16, token_budget=n)
        for n in (2048, 4096, 8192, 16384)
    ),
    HeadCell(sweep="log-probabilities", num_tokens=16384, vocabulary=150_000, hidden_size=1024),
)
SMALL_GRID: tuple[Cell, ...] = (
    UpdateCell(sweep="context", context=128),
    HeadCell(sweep="log-probabilities", num_tokens=2048, vocabulary=20_000, hidden_size=256),
)
VARIED = {
    "context": "context",
    "group size": "group_size",
    "batch": "num_groups",
    "token budget": "token_budget",
    "log-probabilities": "num_tokens",
}
"""The field that a sweep varies."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--small", action="store_true", help="two tiny cells, to see that it works")
    parser.add_argument("--again", action="store_true", help="measure every cell anew")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file")
    arguments = parser.parse_args(words)
    if arguments.again:
        arguments.results.unlink(missing_ok=True)
    results = run(SMALL_GRID if arguments.small else GRID, arguments.results)
    print(table(results["cells"]))
    return 0


def run(grid: Sequence[Cell], path: Path) -> dict[str, Any]:
    """Measure the cells that `path` does not have yet, and write it after each."""
    results = json.loads(path.read_text()) if path.exists() else _begun()
    known = [cell["cell"] for cell in results["cells"]]
    for cell in grid:
        if asdict(cell) in known:
            continue
        measured = measure(cell)
        results["cells"].append({"cell": asdict(cell), **measured})
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{_name(asdict(cell))}: {measured['seconds']:.2f} s", flush=True)
    return results


def measure(cell: Cell) -> dict[str, float]:
    """Raises CalledProcessError when the cell fails."""
    command = [sys.executable, "-m", "benchmarks.scaling_cell", json.dumps(asdict(cell))]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Markdown, a row a cell, in the order of measurement."""
    rows = ["| | s | processor s | peak, MiB |", "| --- | ---: | ---: | ---: |"]
    for cell in cells:
        times = f"{cell['seconds']:.2f} | {cell['cpu_seconds']:.2f}"
        rows.append(f"| {_name(cell['cell'])} | {times} | {cell['peak_mib']:.0f} |")
    return "\n".join(rows)


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['sweep']} {cell[VARIED[cell['sweep']]]:,}"


def _begun() -> dict[str, Any]:
    return {
        "machine": describe_machine(),
        "versions": versions(Path(sys.executable)),
        "cells": [],
    }


if __name__ == "__main__":
    sys.exit(main())
