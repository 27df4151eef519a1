"""Figures are plain data made of rows: numbers checked by hand, no database."""

from datetime import UTC, datetime, timedelta

import pytest

from webapp.evaluations.charts import curves as evaluation_curves
from webapp.runs.charts import (
    MAX_POINTS,
    SECTIONS,
    Axes,
    Curves,
    run_figures,
    smooth,
    sparkline,
    strided,
    thin,
)
from webapp.runs.models import RunEvaluation, Step

START = datetime(2026, 1, 1, tzinfo=UTC)


def step(number: int, **metrics: tuple[float, float]) -> Step:
    return Step(
        step=number,
        time=START + timedelta(seconds=60 * number),
        seconds=60.0,
        metrics={name.replace("__", "/"): list(pair) for name, pair in metrics.items()},
        phases={"rollout": 40.0, "update": 20.0},
    )


def evaluation(number: int, reward: float) -> RunEvaluation:
    time = START + timedelta(seconds=60 * number)
    return RunEvaluation(step=number, time=time, mean_reward=reward, seconds=0.0)


def curves(steps: list[Step], evaluations: list[RunEvaluation] | None = None, **axes) -> Curves:
    return Curves(steps, evaluations or [], Axes(**axes), num_steps=16)


def test_the_reward_is_numerator_over_denominator_and_the_diamonds_are_heldout():
    rows = [step(1, reward__mean=(16, 64)), step(2, reward__mean=(32, 64))]
    figure = run_figures(curves(rows, [evaluation(0, 0.125)]))["reward"]
    train, heldout = figure["data"]
    assert (train["x"], train["y"], train["customdata"]) == ([1, 2], [0.25, 0.5], [1, 2])
    assert (heldout["x"], heldout["y"]) == ([0], [0.125])
    assert heldout["marker"]["symbol"] == "diamond"


def test_every_chart_on_the_page_has_a_figure_and_every_figure_a_place():
    figures = run_figures(curves([]))
    assert [chart.name for _, charts in SECTIONS for chart in charts] == list(figures)


def test_figures_without_rows_have_no_trace_with_points():
    for name, figure in run_figures(curves([])).items():
        assert all(not trace["x"] for trace in figure["data"]), name


def test_a_metric_that_counted_nothing_is_a_gap():
    rows = [step(1, entropy=(0.5, 1)), step(2, entropy=(0, 0)), step(3, entropy=(0.4, 1))]
    assert run_figures(curves(rows))["entropy"]["data"][0]["y"] == [0.5, None, 0.4]


def test_wall_clock_counts_minutes_from_the_first_row_s_beginning():
    rows = [step(1, entropy=(1, 1)), step(2, entropy=(1, 1))]
    assert run_figures(curves(rows, x="time"))["entropy"]["data"][0]["x"] == [1.0, 2.0]


def test_smoothing_keeps_the_values_behind_the_curve():
    rows = [step(1, entropy=(1, 1)), step(2, entropy=(2, 1))]
    faint, smoothed = run_figures(curves(rows, smoothing=0.5))["entropy"]["data"]
    assert faint["y"] == [1.0, 2.0]
    # 0.5 x 1 over 0.5; then (0.25 x 1 + 0.5 x 2) over 0.75
    assert smoothed["y"] == [1.0, pytest.approx(1.6667, abs=1e-4)]


def test_smooth_passes_over_gaps():
    assert smooth([1.0, None, 1.0], 0.9) == [1.0, None, pytest.approx(1.0)]


def test_a_log_axis_is_for_lines_and_not_for_stacked_shares():
    figures = run_figures(curves([step(1, grad_norm=(1, 1), solved__all=(1, 2))], log=True))
    assert figures["grad_norm"]["layout"]["yaxis"]["type"] == "log"
    assert "type" not in figures["solved"]["layout"]["yaxis"]


def test_termination_shows_the_reasons_that_occurred():
    rows = [step(1, termination__finished=(48, 64), termination__max_turns=(16, 64))]
    data = run_figures(curves(rows))["termination"]["data"]
    assert [(trace["name"], trace["y"]) for trace in data] == [
        ("finished", [0.75]),
        ("max turns", [0.25]),
    ]


@pytest.mark.parametrize(("name", "limit"), [("mismatch", 0.02), ("kl", 0.01)])
def test_figures_with_a_limit_show_it(name: str, limit: float):
    layout = run_figures(curves([step(1)]))[name]["layout"]
    shape = layout["shapes"][0]
    assert (shape["y0"], shape["y1"]) == (limit, limit)
    assert layout["yaxis"]["range"][1] > limit


def test_colours_are_names_that_the_page_resolves():
    rows = [step(1, reward__mean=(1, 2), clip__low=(0, 1), clip__high=(0, 1))]
    for figure in run_figures(curves(rows)).values():
        for trace in figure["data"]:
            assert trace["marker"]["color"].startswith("var(--")


def test_a_trace_has_at_most_a_thousand_points_and_keeps_the_spike():
    values = [0.0] * 50_000
    values[31_337] = 9.0
    kept = thin(values)
    assert len(kept) <= MAX_POINTS
    assert 31_337 in kept
    assert kept == sorted(kept)


def test_bars_are_strided_and_keep_the_newest():
    rows = [step(number) for number in range(1, 2502)]
    kept = strided(rows)
    assert len(kept) <= MAX_POINTS
    assert kept[-1].step == 2501


def test_a_sparkline_needs_two_points():
    assert sparkline([0.5]) == ""
    assert sparkline([0.0, 1.0], width=10, height=4) == "M0.0 4.0L10.0 0.0"


def test_many_methods_are_named_below_the_plot_and_a_random_choice_is_dotted() -> None:
    few = evaluation_curves({"pass@k": [0.5, 0.7], "random": [0.5, 0.5]})
    assert few["layout"]["showlegend"]
    assert [trace["line"]["dash"] for trace in few["data"]] == ["solid", "dot"]
    many = evaluation_curves({f"m{number}": [0.5] for number in range(9)})
    assert not many["layout"]["showlegend"]
    assert [trace["name"] for trace in many["data"]] == [f"best@k, m{n}" for n in range(9)]
    assert all(trace["line"]["color"] for trace in many["data"])
