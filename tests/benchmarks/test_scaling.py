"""The small form of the benchmark, with its real processes: every cell is measured once, whatever cut it before."""

import json
from pathlib import Path

import pytest

from benchmarks import scaling


def test_a_run_measures_only_the_cells_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scaling.json"
    assert scaling.main(["--small", "--results", str(path)]) == 0
    results = json.loads(path.read_text())
    update, head = results["cells"]
    assert update["cell"]["sweep"] == "context"
    assert update["cpu_seconds"] > 0
    # at least the output layer's gradient, and less than all logits in float32
    assert 20_000 * 256 * 4 / 2**20 <= head["peak_mib"] < 2048 * 20_000 * 4 / 2**20

    path.write_text(json.dumps(results | {"cells": [update | {"seconds": 4321.0}]}))
    capsys.readouterr()
    assert scaling.main(["--small", "--results", str(path)]) == 0
    assert len(json.loads(path.read_text())["cells"]) == 2
    printed = capsys.readouterr().out.splitlines()
    assert "| context 128 | 4321.00 |" in printed[-2]
    assert printed[-1].startswith("| log-probabilities 2,048 |")


def test_the_grid_is_what_the_documentation_says() -> None:
    varied: dict[str, list[int]] = {}
    for cell in scaling.GRID:
        fields = vars(cell)
        varied.setdefault(cell.sweep, []).append(fields[scaling.VARIED[cell.sweep]])
    assert varied["context"] == [1024, 2048, 4096, 8192, 16384]
    assert varied["group size"] == [2, 4, 8, 16, 32]
    assert varied.keys() == scaling.VARIED.keys()
