"""What each of the seven parts of GRPO++ is worth on the starter: all seven, each one switched off, and plain GRPO.

    python -m benchmarks.ablation run [--cell NAME]... [--seed N]...   train what has no summary yet
    python -m benchmarks.ablation report                               summaries -> docs/training.md and docs/ablation.svg

A cell is one configuration with one seed: the starter recipe for 8 steps with the fields of `CELLS` changed. It is done when
its summary is in benchmarks/results/; one that was cut goes on from its newest checkpoint. The table and the plot are written
from the summaries alone, also while some are missing. How differences are estimated is in `benchmarks.ablation_report`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import tomli_w

from benchmarks.ablation_report import ALL_SEVEN, plot, table
from benchmarks.marked import put
from benchmarks.starter import RESULTS, ROOT, RUNS, summarise_run
from trainer.config import CONFIG_FILE
from trainer.recipes import load_recipe, merge

SEEDS = (0, 1, 2)
STEPS = 8
TIMEOUT_S = 1200
"""Time limit of a rollout: far above what one takes, so that how fast or busy the machine is decides no reward."""
MICRO_BATCH_TOKENS = 1024
"""A quarter of the recipe's, which changes no gradient beyond rounding: two cells side by side fit 24 GiB."""
DOC = ROOT / "docs" / "training.md"
PLOT = ROOT / "docs" / "ablation.svg"

GRPO: dict[str, Any] = {
    "clip_ratio_high": 0.20,
    "kl_coef": 0.04,
    "normalize_std": True,
    "loss_normalizer": "sequence",
    "baseline": "mean",
    "compact_filtering": [],
}
"""GRPO as published (arXiv 2402.03300, section 4.2: KL coefficient 0.04); it has no entropy loss either."""

CELLS: dict[str, dict[str, Any]] = {
    ALL_SEVEN: {},
    "no clip high": {"clip_ratio_high": GRPO["clip_ratio_high"]},
    "KL penalty": {"kl_coef": GRPO["kl_coef"]},
    "divided by deviation": {"normalize_std": GRPO["normalize_std"]},
    "sequence length": {"loss_normalizer": GRPO["loss_normalizer"]},
    "mean as baseline": {"baseline": GRPO["baseline"]},
    "no filtering": {"compact_filtering": GRPO["compact_filtering"]},
    "entropy bonus": {"entropy_coef": 0.001},
    "plain GRPO": GRPO,
}
"""Name -> fields of `[algorithm]`: the parts in the order of docs/training.md."""
EQUAL = ALL_SEVEN, "no clip high", "mean as baseline"
"""Cells that are equal in effect on the starter: a clip that never cuts, and a constant factor (docs/training.md says why)."""


def slug(cell: str, seed: int) -> str:
    return f"ablation_{cell.replace(' ', '_').lower()}_seed_{seed}"


def run_cell(cell: str, seed: int, *, overrides: dict[str, Any], runs: Path, results: Path) -> Path:
    """Train the cell unless its summary is there, and return the summary's path. Raises CalledProcessError.

    `overrides` are laid over the starter recipe, for a trial on less.
    """
    path = results / f"{slug(cell, seed)}.json"
    if path.exists():
        return path
    run_dir = runs / slug(cell, seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    if not (run_dir / CONFIG_FILE).exists():
        config = load_recipe("starter-cpu", cell_config(cell, seed, overrides))
        (run_dir / CONFIG_FILE).write_text(tomli_w.dumps(config.model_dump(mode="json")))
    subprocess.run([sys.executable, "-m", "trainer", str(run_dir)], cwd=ROOT, check=True)
    results.mkdir(parents=True, exist_ok=True)
    summary = {"cell": cell, "changed": CELLS[cell]} | summarise_run(run_dir)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(summary, indent=1) + "\n")
    unfinished.rename(path)
    return path


def cell_config(cell: str, seed: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """What a cell lays over the recipe: evaluated after the last step alone, for cells are compared with each other."""
    own = {
        "seed": seed,
        "num_steps": STEPS,
        "rollout": {"timeout_s": TIMEOUT_S},
        "optimizer": {"micro_batch_tokens": MICRO_BATCH_TOKENS},
        "algorithm": CELLS[cell],
        "evaluation": {"every_steps": overrides.get("num_steps", STEPS), "untrained": False},
        "checkpoint": {"every_steps": 1, "keep": 1},
    }
    return merge(own, overrides)


def read_summaries(results: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(results.glob("ablation_*_seed_*.json"))]


def write_report(summaries: list[dict[str, Any]], doc: Path, picture: Path) -> None:
    """Put the table into `doc`, and the plot into `picture`. Raises ClickException where `doc` has no marks for it."""
    put(doc, "ablation table", table(summaries, list(CELLS), EQUAL))
    picture.write_text(plot(summaries, list(CELLS)))


@click.group()
def main() -> None:
    """The seven parts of GRPO++, measured."""


@main.command()
@click.option("--cell", "cells", multiple=True, type=click.Choice(list(CELLS)), help="default: all")
@click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, show_default=True)
@click.option(
    "--trial", is_flag=True, help="one tiny step a cell, under var/trial, to see that it works"
)
def run(cells: tuple[str, ...], seeds: tuple[int, ...], trial: bool) -> None:
    """Train every cell that has no summary yet, seed by seed: all cells of one seed before the next."""
    overrides = TRIAL if trial else {}
    runs, results = (ROOT / "var/trial", ROOT / "var/trial/results") if trial else (RUNS, RESULTS)
    for seed in seeds:
        for cell in cells or CELLS:
            path = run_cell(cell, seed, overrides=overrides, runs=runs, results=results)
            click.echo(f"{cell}, seed {seed}: {path.relative_to(ROOT)}")


@main.command()
def report() -> None:
    """Write the table and the plot of what has been measured so far."""
    summaries = read_summaries(RESULTS)
    write_report(summaries, DOC, PLOT)
    click.echo(table(summaries, list(CELLS), EQUAL))


TRIAL: dict[str, Any] = {
    "num_steps": 1,
    "tasks": {"tasks_per_step": 2},
    "rollout": {"group_size": 2, "max_turns": 1, "max_turn_tokens": 8},
    "evaluation": {"limit": 1, "group_size": 1},
}


if __name__ == "__main__":
    main()
