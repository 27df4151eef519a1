"""The starter runs behind the README's table: run them, summarise them, write the table.

    python -m benchmarks.starter run SEED...      train starter-cpu with each seed, then summarise
    python -m benchmarks.starter summarise DIR    RUN_DIR -> benchmarks/results/starter_seed_N.json
    python -m benchmarks.starter table            summaries -> the table between the marks in README.md

A summary holds what the claims rest on: every step's reward, seconds and tokens, and every held-out score before and
after training. Curves for people are on the run's page, not here.
"""

import json
import random
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import click

from benchmarks.marked import put
from trainer.config import CONFIG_FILE
from trainer.events import (
    EVENTS_FILE,
    Evaluated,
    Started,
    StepEnded,
    counted_steps,
    read_events,
)
from trainer.recipes import FOLDER

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "var" / "runs"
README = ROOT / "README.md"
RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean difference with its 95 % interval."""

    mean: float
    low: float
    high: float


def summarise_run(run_dir: Path) -> dict[str, Any]:
    """What a finished run's events say. Raises ValueError where the evaluation after its last step is missing.

    `untrained` is empty for a run that did not evaluate the untrained policy.
    """
    events = [event for _, event in read_events(run_dir / EVENTS_FILE)]
    started = next(event for event in events if isinstance(event, Started))
    steps = counted_steps(events)
    scores = {event.step: event.scores for event in events if isinstance(event, Evaluated)}
    last = started.config["num_steps"]
    if last not in scores:
        raise ValueError(
            f"{run_dir}: no evaluation after step {last}; the run must end before it is summarised"
        )
    host = {key: started.host[key] for key in ("cores", "memory_mib", "gpus")}
    return {
        "recipe": started.config["recipe"],
        "seed": started.config["seed"],
        "date": started.time.date().isoformat(),
        "host": host,
        "versions": started.versions,
        "tasks": started.tasks,
        "tasks_per_step": started.config["tasks"]["tasks_per_step"],
        "steps": [_step(event) for event in steps],
        "untrained": scores.get(0, {}),
        "trained": scores[last],
        "seconds": (events[-1].time - started.time).total_seconds(),
    }


def _step(event: StepEnded) -> dict[str, Any]:
    names = (
        "reward/mean",
        "perf/sampled_tokens_per_s",
        "mismatch/abs_diff",
        "tokens/sampled",
        "filtered/fraction",
    )
    metrics = {name: event.metrics[name] for name in names if name in event.metrics}
    return {
        "step": event.step,
        "seconds": event.seconds,
        "updated": event.updated,
        "metrics": metrics,
    }


def pass_rewards(summary: dict[str, Any]) -> tuple[float, float]:
    """Mean train reward of the first and of the last whole pass over the training tasks."""
    length = steps_per_pass(summary)
    return reward(summary["steps"][:length]), reward(summary["steps"][-length:])


def steps_per_pass(summary: dict[str, Any]) -> int:
    return -(-len(summary["tasks"]) // int(summary["tasks_per_step"]))


def mean_score(scores: dict[str, list[float]]) -> float:
    """Over all attempts at all tasks."""
    return fmean(score for attempts in scores.values() for score in attempts)


def reward(steps: list[dict[str, Any]]) -> float:
    """Mean over the steps' rollouts."""
    pairs = [step["metrics"]["reward/mean"] for step in steps]
    return float(sum(n for n, _ in pairs) / sum(d for _, d in pairs))


def paired_bootstrap(
    before: dict[str, list[float]], after: dict[str, list[float]], seed: int = 0
) -> Interval:
    """Mean of the tasks' (after - before) solve rates, and its percentile interval over resampled tasks.

    Tasks are the unit that is resampled, since rollouts of one task are not independent (Efron and Tibshirani, 1993).
    """
    differences = [
        fmean(after[task]) - fmean(before[task]) for task in sorted(before.keys() & after.keys())
    ]
    draw = random.Random(seed)
    means = sorted(fmean(draw.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    return Interval(
        fmean(differences), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    )


def table(summaries: list[dict[str, Any]]) -> str:
    """The README's table, one row a seed."""
    rows = [
        "| seed | reward, first pass | last pass | held out, untrained | trained | difference (95 %) "
        "| s a step | sampled tokens a step | sampler-trainer gap | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in sorted(summaries, key=lambda s: int(s["seed"])):
        first, last = pass_rewards(s)
        held_out = paired_bootstrap(s["untrained"], s["trained"])
        before, after = mean_score(s["untrained"]), mean_score(s["trained"])
        seconds = fmean(step["seconds"] for step in s["steps"])
        tokens = fmean(step["metrics"]["perf/sampled_tokens_per_s"][0] for step in s["steps"])
        rows.append(
            f"| {s['seed']} | {first:.2f} | {last:.2f} | {before:.2f} | {after:.2f} "
            f"| {held_out.mean:+.2f} ({held_out.low:+.2f} to {held_out.high:+.2f}) | {seconds:.0f} | {tokens:,.0f} "
            f"| {_gap(s):.2g} | {s['seconds'] / 60:.0f} |"
        )
    return "\n".join(rows) + "\n"


def _gap(summary: dict[str, Any]) -> float:
    """Mean |difference| of log-probability between sampler and trainer over the run's trained tokens, nats."""
    pairs = [
        s["metrics"]["mismatch/abs_diff"]
        for s in summary["steps"]
        if "mismatch/abs_diff" in s["metrics"]
    ]
    return float(sum(n for n, _ in pairs) / sum(d for _, d in pairs))


@click.group()
def main() -> None:
    """Starter runs and the README's table."""


@main.command()
@click.argument("seeds", nargs=-1, type=int, required=True)
def run(seeds: tuple[int, ...]) -> None:
    """Train starter-cpu with each of SEEDS (twenty minutes to an hour each) and summarise it."""
    for seed in seeds:
        run_dir = RUNS / f"starter_seed_{seed}"
        run_dir.mkdir(parents=True, exist_ok=True)
        recipe = (FOLDER / "starter-cpu.toml").read_text()
        (run_dir / CONFIG_FILE).write_text(f"seed = {seed}\n{recipe}")
        subprocess.run([sys.executable, "-m", "trainer", str(run_dir)], cwd=ROOT, check=True)
        _write(run_dir)


@main.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
def summarise(run_dir: Path) -> None:
    """Summarise a finished RUN_DIR."""
    _write(run_dir)


@main.command("table")
def write_table() -> None:
    """Write the table into README.md."""
    summaries = [
        json.loads(path.read_text()) for path in sorted(RESULTS.glob("starter_seed_*.json"))
    ]
    put(README, "starter table", table(summaries))
    click.echo(table(summaries))


def _write(run_dir: Path) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    summary = summarise_run(run_dir)
    if not summary["untrained"]:
        raise click.ClickException(
            f"{run_dir}: evaluation.untrained = false: the table compares with the untrained policy; train with it on"
        )
    path = RESULTS / f"starter_seed_{summary['seed']}.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    first, last = pass_rewards(summary)
    held_out = paired_bootstrap(summary["untrained"], summary["trained"])
    click.echo(f"{path.name}: train reward {first:.3f} -> {last:.3f}, held out {held_out}")


if __name__ == "__main__":
    main()
