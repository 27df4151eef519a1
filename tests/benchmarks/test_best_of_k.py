"""The figures of the README's table, from rollouts whose answers are known."""

from uuid import uuid4
from xml.etree import ElementTree

from benchmarks.best_of_k import Kept, curves, from_lines, text, to_lines
from trainer.evaluations.summary import RolloutRow
from trainer.reports.plots import curves_plot, standalone


def row(task: str, reward: float, patch_digest: str, patch_size: int) -> RolloutRow:
    return RolloutRow(
        task=task,
        rollout=uuid4(),
        termination_reason="finished",
        reward=reward,
        flags=[],
        patch_digest=patch_digest,
        patch_size=patch_size,
        num_turns=2,
        num_sampled_tokens=100,
        num_response_tokens=300,
        seconds=3.0,
        grade_s=0.5,
    )


TASKS = ("t/scored", "t/short")
BASE = [row(task, reward, "a", 5) for task in TASKS for reward in (0.0, 1.0)]
TRAINED = [
    row("t/scored", 1.0, "a", 30),
    row("t/scored", 0.0, "b", 20),
    row("t/short", 1.0, "a", 10),
    row("t/short", 0.0, "b", 20),
]
SCORES = dict(zip([row.rollout for row in TRAINED], (0.9, 0.1, 0.2, 0.8), strict=True))
KEPT = Kept(BASE, TRAINED, SCORES)


def test_what_is_kept_is_read_again() -> None:
    assert from_lines(to_lines(KEPT).splitlines()) == KEPT


def test_the_words_hold_the_figures() -> None:
    told = text(KEPT)
    assert "| base model | 50.0%" in told
    assert "| verifier | 50.0% |  |" in told
    assert "| shortest patch | 50.0% | +0.0 (-100.0 to +100.0) |" in told
    assert "| an oracle (pass@2) | 100.0% | |" in told


def test_the_plot_is_a_file_of_its_own_with_a_line_for_each() -> None:
    root = ElementTree.fromstring(standalone(curves_plot(curves(KEPT))))
    series = root.findall("{http://www.w3.org/2000/svg}g")
    assert len(series) == len(curves(KEPT)) == 6
