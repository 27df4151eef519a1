"""What a report on an evaluation says, before it is Markdown or HTML: blocks in their order, and what is plotted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trainer.evaluations.comparison import Difference
from trainer.evaluations.config import EvalConfig
from trainer.evaluations.estimates import Estimate
from trainer.evaluations.methods import BASELINES, Method
from trainer.evaluations.scores import Quality
from trainer.evaluations.summary import PASS, Part, Summary

SHOWN_K = (1, 2, 4, 8, 16, 32, 64)
MAX_PARTS = 40
"""More repositories than that are not listed."""


class Bullets(NamedTuple):
    items: Sequence[str]


class Table(NamedTuple):
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Text(NamedTuple):
    text: str


Block = Bullets | Table | Text


@dataclass(frozen=True, kw_only=True)
class Report:
    title: str
    head: Bullets
    blocks: list[Block]
    """What follows the head and the plots."""
    curves: Mapping[str, Sequence[float]]
    """Name -> its values for k = 1, 2, ...: pass@k and best@k of each method."""
    parts: list[Part]
    """Bands of difficulty and repositories, where there are several and few enough to read."""


def report_of(
    config: EvalConfig,
    summary: Summary,
    verified: Mapping[str, Quality],
    chosen: Sequence[Method] = (),
) -> Report:
    curves = _curves(summary, chosen)
    repositories = summary.by_repository if len(summary.by_repository) < MAX_PARTS else []
    blocks: list[Block] = [
        _values(curves),
        *_gains(chosen),
        _verifiers(verified),
        _parts("Repository", repositories),
        _parts("Difficulty", summary.by_difficulty),
        _counts("Ended by", summary.endings),
        _counts("Flag", summary.flags),
        *_lengths(summary),
    ]
    kinds = (summary.by_difficulty, repositories)
    return Report(
        title=f"{config.model.path} on {config.tasks.taskset}",
        head=_head(config, summary),
        blocks=[block for block in blocks if not isinstance(block, Table) or block.rows],
        curves=curves,
        parts=[part for parts in kinds if len(parts) > 1 for part in parts],
    )


def percent(estimate: Estimate) -> str:
    """With its 95 % interval."""
    low, high = estimate.interval
    return f"{estimate.value:.1%} ({low:.1%} to {high:.1%})"


def points(gain: Difference | None) -> str:
    """`+3.1 (+0.4 to +6.0)`."""
    if gain is None:
        return "–"
    low, high = gain.interval
    return f"{100 * gain.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _head(config: EvalConfig, summary: Summary) -> Bullets:
    rollout = config.rollout
    return Bullets(
        [
            f"pass@1: {percent(summary.pass_1)}, 95 % interval clustered by task"
            if summary.pass_1
            else "nothing is scored",
            f"{summary.num_tasks} tasks, {rollout.group_size} rollouts each; "
            f"{summary.num_scored} of {summary.num_rollouts} rollouts have a score",
            f"temperature {rollout.temperature:g}, at most {rollout.max_turns} turns and "
            f"{rollout.max_response_tokens} tokens after the prompt, {config.sandbox.backend}",
        ]
    )


def _curves(summary: Summary, chosen: Sequence[Method]) -> dict[str, list[float]]:
    passes = {PASS: summary.curves[PASS]} if summary.curves else {}
    return passes | {f"best@k, {method.name}": method.curve for method in chosen}


def _values(curves: Mapping[str, Sequence[float]]) -> Table:
    longest = max(map(len, curves.values()), default=0)
    shown = [k for k in SHOWN_K if k < longest] + ([longest] if longest else [])
    rows = [[name, *(f"{values[k - 1]:.1%}" for k in shown)] for name, values in curves.items()]
    return Table(["", *(f"k = {k}" for k in shown)], rows)


def _gains(chosen: Sequence[Method]) -> list[Block]:
    """What each way to choose gains at the largest k, in points; nothing to tell where there is one rollout a task."""
    if not chosen or len(chosen[0].curve) < 2:
        return []
    rows = [
        [method.name, f"{method.best:.1%}", *map(points, method.gains_in_order)]
        for method in chosen
    ]
    head = [f"best@{len(chosen[0].curve)}", "", *(f"over {baseline}" for baseline in BASELINES)]
    note = "Gains in points with 95 % intervals, by the paired bootstrap over tasks."
    return [Table(head, rows), Text(note)]


def _verifiers(verified: Mapping[str, Quality]) -> Table:
    rows = [
        [name, str(found.num_scored), "–" if found.auc is None else f"{found.auc:.3f}"]
        for name, found in verified.items()
    ]
    return Table(["Verifier", "rollouts scored", "AUC"], rows)


def _parts(title: str, parts: Sequence[Part]) -> Table:
    rows = [[p.name, str(p.estimate.num_tasks), percent(p.estimate)] for p in parts]
    return Table([title, "tasks", "pass@1"], rows)


def _counts(title: str, counts: Mapping[str, int]) -> Table:
    return Table([title, "rollouts"], [[name, str(count)] for name, count in counts.items()])


def _lengths(summary: Summary) -> list[Block]:
    if summary.lengths is None:
        return []
    mean = summary.lengths
    told = (
        f"A scored rollout took {mean.num_turns:.1f} turns, {mean.num_sampled_tokens:.0f} sampled tokens and "
        f"{mean.seconds:.1f} s on average, and {mean.grade_s:.1f} s to grade. All rollouts together: "
        f"{summary.num_sampled_tokens} sampled tokens, {summary.rollout_hours:.2f} rollout hours."
    )
    return [Text(told)]
