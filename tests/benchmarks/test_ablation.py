"""The ablation: its cells are what they are called, estimates by hand, and one real cell on a tiny model, begun twice."""

import math
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks.ablation import CELLS, EQUAL, cell_config, read_summaries, run_cell, write_report
from benchmarks.ablation_report import ALL_SEVEN, plot, rows, simultaneous_intervals, table
from tests.trainer.tiny_model import make_tiny_model
from trainer.events import EVENTS_FILE, Resumed, read_events
from trainer.recipes import load_recipe

START, END = "<!-- ablation table -->\n", "<!-- /ablation table -->"
DEFAULTS = load_recipe("starter-cpu").algorithm.model_dump()


def summary(cell: str, seed: int, trained: dict[str, list[float]]) -> dict[str, Any]:
    metrics = {"reward/mean": (4.0, 8.0)}
    return {
        "cell": cell,
        "seed": seed,
        "tasks": ["a", "b"],
        "tasks_per_step": 1,
        "steps": [{"step": i, "metrics": metrics} for i in (1, 2, 3, 4)],
        "trained": trained,
    }


SPREAD = (-0.02, 0.0, 0.02)
"""Of three seeds around a configuration's rate."""


def both(seed: int, cell: str, shift: float) -> list[dict[str, Any]]:
    """All seven parts solve about half of both tasks; the cell solves `shift` more."""
    half = 0.5 + SPREAD[seed]
    return [
        summary(ALL_SEVEN, seed, {"x": [half], "y": [half]}),
        summary(cell, seed, {"x": [half + shift], "y": [half + shift]}),
    ]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_changes_what_it_is_called_after_and_nothing_else(cell: str) -> None:
    config = load_recipe("starter-cpu", cell_config(cell, 1, {}))
    now = config.algorithm.model_dump()
    changed = {name for name, value in now.items() if value != DEFAULTS[name]}
    assert changed == set(CELLS[cell])
    assert (config.seed, config.num_steps, config.evaluation.every_steps) == (1, 8, 8)


def test_every_part_is_off_in_one_cell_and_grpo_lacks_all_that_it_does_not_have() -> None:
    single = [set(fields) for cell, fields in CELLS.items() if len(fields) == 1]
    assert len(single) == 7
    assert set.union(*single) == set(CELLS["plain GRPO"]) | {"entropy_coef"}


def test_intervals_are_those_of_dunnetts_table() -> None:
    """Two cells and a control with three runs each: 2.86 standard errors (his table for 6 degrees of freedom)."""
    rates = {ALL_SEVEN: [0.2, 0.4, 0.3], "a": [0.5, 0.3, 0.4], "b": [0.1, 0.3, 0.2]}
    half = 2.86 * 0.1 * math.sqrt(2 / 3)
    found = simultaneous_intervals(rates, [ALL_SEVEN])
    assert found["a"] == pytest.approx((0.1, 0.1 - half, 0.1 + half), abs=0.001)
    assert found["b"] == pytest.approx((-0.1, -0.1 - half, -0.1 + half), abs=0.001)


def test_runs_that_are_equal_in_effect_are_one_control() -> None:
    """One cell beside a control of six: Student's t with 7 degrees of freedom, 2.365."""
    rates = {ALL_SEVEN: [0.2, 0.4, 0.3], "a": [0.3, 0.2, 0.4], "b": [0.1, 0.3, 0.2]}
    half = 2.365 * math.sqrt(0.06 / 7) * math.sqrt(1 / 3 + 1 / 6)
    found = simultaneous_intervals(rates, [ALL_SEVEN, "a"])
    assert found == {"b": pytest.approx((-0.1, -0.1 - half, -0.1 + half), abs=0.001)}
    assert simultaneous_intervals(rates | {"a": [0.3, 0.2]}, [ALL_SEVEN, "a"]) == {}
    assert set(EQUAL) < set(CELLS)


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.2, "better without"), (-0.2, "worse without"), (0.01, "no difference seen")],
)
def test_a_row_says_what_was_seen(shift: float, verdict: str) -> None:
    summaries = [s for seed in (0, 1, 2) for s in both(seed, "KL penalty", shift)]
    seven, row = rows(summaries, [ALL_SEVEN, "KL penalty"])
    assert (seven.trained, seven.difference, seven.verdict) == (0.5, None, "")
    assert row.difference == pytest.approx(shift)
    assert (row.seeds, row.verdict) == (3, verdict)
    assert (row.first_pass, row.last_pass) == (0.5, 0.5)


def test_what_lacks_seeds_has_a_difference_and_neither_interval_nor_verdict() -> None:
    summaries = [s for seed in (0, 1) for s in both(seed, "KL penalty", 0.2)]
    seven, row = rows(summaries, [ALL_SEVEN, "KL penalty"])
    assert (seven.verdict, row.verdict) == ("", "2 of 3 seeds: too few to tell")
    assert (row.difference, row.interval) == (pytest.approx(0.2), None)
    late = summary("KL penalty", 2, {"x": [0.7], "y": [0.7]})
    _, row = rows([*summaries, late], [ALL_SEVEN, "KL penalty"])
    assert (row.interval, row.verdict) == (None, "all seven parts lack seeds: too few to tell")


def test_what_is_not_measured_says_so() -> None:
    lines = table([], list(CELLS)).splitlines()[2:]
    assert lines == [f"| {cell} | – | – | – | – | – | not measured yet | – |" for cell in CELLS]
    assert plot([], list(CELLS)).count("not measured yet") == len(CELLS) - 1


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_plot_has_a_dot_a_measured_cell_and_an_interval_where_all_seeds_are(seeds: int) -> None:
    summaries = [s for seed in range(seeds) for s in both(seed, "KL penalty", 0.2)]
    picture = plot(summaries, [ALL_SEVEN, "KL penalty", "plain GRPO"])
    assert picture.count("<circle") == 1
    assert picture.count("<line") == (2 if seeds == 3 else 1)
    assert "+0.20" in picture
    assert picture.count("not measured yet") == 1


def test_the_report_goes_between_the_marks(tmp_path: Path) -> None:
    doc, picture = tmp_path / "doc.md", tmp_path / "plot.svg"
    doc.write_text(f"before\n{START}old\n{END}\nafter\n")
    write_report(both(0, "KL penalty", 0.2), doc, picture)
    text = doc.read_text()
    assert text.startswith(f"before\n{START}| configuration")
    assert text.endswith(f"|\n{END}\nafter\n")
    assert "old" not in text
    doc.write_text("no marks")
    with pytest.raises(click.ClickException, match="marks"):
        write_report([], doc, picture)


def test_a_real_cell_is_trained_once_and_one_without_a_summary_goes_on(tmp_path: Path) -> None:
    model = tmp_path / "model"
    make_tiny_model(model)
    overrides = {
        "num_steps": 1,
        "model": {"path": str(model), "dtype": "float32"},
        "engine": {"kind": "transformers"},
        "tasks": {"tasks_per_step": 1},
        "rollout": {
            "group_size": 2,
            "max_turns": 1,
            "max_turn_tokens": 8,
            "max_prompt_tokens": 1000,
        },
        "evaluation": {"limit": 1, "group_size": 1},
        "hardware": {"peak_tflops": 1},
    }
    places = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    path = run_cell("KL penalty", 5, overrides=overrides, **places)
    (first,) = read_summaries(places["results"])
    assert (first["cell"], first["seed"], first["changed"]) == ("KL penalty", 5, {"kl_coef": 0.04})
    assert [step["step"] for step in first["steps"]] == [1]
    assert (len(first["untrained"]), len(first["trained"])) == (0, 1)

    (events,) = places["runs"].glob(f"*/{EVENTS_FILE}")
    written = events.stat().st_size
    assert run_cell("KL penalty", 5, overrides=overrides, **places) == path
    assert events.stat().st_size == written

    path.unlink()
    run_cell("KL penalty", 5, overrides=overrides, **places)
    assert [e.from_step for _, e in read_events(events) if isinstance(e, Resumed)] == [1]
    (again,) = read_summaries(places["results"])
    assert again["steps"] == first["steps"]
    assert again["trained"] == first["trained"]
