"""The figures of the README's table, from a summary whose answers are known."""

from xml.etree import ElementTree

import pytest

from benchmarks.best_of_k import against, curves, methods, text
from benchmarks.curves import line_plot


def rollouts(*told: tuple[float, str, int, float]) -> list[dict[str, object]]:
    """(reward, digest and size of the patch, score) of each."""
    names = ("reward", "digest", "size", "score")
    return [dict(zip(names, row, strict=True)) for row in told]


TRAINED = {
    "t/scored": rollouts((1.0, "a", 30, 0.9), (0.0, "b", 20, 0.1)),
    "t/short": rollouts((1.0, "a", 10, 0.2), (0.0, "b", 20, 0.8)),
}
SUMMARY = {
    "verifier": "v",
    "base": {task: rollouts((0.0, "", 0, 0.0), (1.0, "a", 5, 0.0)) for task in TRAINED},
    "trained": TRAINED,
}


def test_each_way_to_choose_has_its_value() -> None:
    chosen = methods(TRAINED)
    last = {name: [values[-1] for values in by_task.values()] for name, by_task in chosen.items()}
    assert last == {
        "any of k": [1.0, 1.0],
        "vote": [0.5, 0.5],
        "shortest patch": [0.0, 1.0],
        "verifier": [1.0, 0.0],
        "chance": [0.5, 0.5],
    }
    assert against(chosen["chance"], chosen["verifier"]).value == 0


def test_the_words_hold_the_figures() -> None:
    told = text(SUMMARY)
    assert "| base model | 50.0%" in told
    assert "| verifier | 50.0% |  |" in told
    assert "| an oracle (pass@2) | 100.0% | -50.0 points (-100.0 to +0.0) |" in told


def test_the_plot_is_an_svg_with_a_line_for_each() -> None:
    root = ElementTree.fromstring(line_plot(curves(SUMMARY), title="Solved & chosen"))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(curves(SUMMARY)) == 6


def test_names_of_equal_lines_do_not_overlap() -> None:
    plot = ElementTree.fromstring(line_plot({"one": [0.2, 0.3], "two": [0.1, 0.3]}, title="t"))
    names = [e for e in plot.iter() if e.text and e.text.startswith(("one", "two"))]
    first, second = (float(name.attrib["y"]) for name in names)
    assert second - first == pytest.approx(16)
