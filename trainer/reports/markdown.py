"""An evaluation's summary as Markdown, for a pull request or a model card."""

from collections.abc import Mapping, Sequence

from trainer.comparison import Difference
from trainer.estimates import Estimate
from trainer.evaluation_config import EvalConfig
from trainer.methods import BASELINES, Method
from trainer.scores import Verified
from trainer.summary import Part, Summary

SHOWN_K = (1, 2, 4, 8, 16, 32, 64)


def markdown(
    config: EvalConfig,
    summary: Summary,
    verifiers: Sequence[Verified] = (),
    chosen: Sequence[Method] = (),
) -> str:
    parts = [
        f"# {config.model.path} on {config.tasks.taskset}",
        _head(config, summary),
        _curves(summary.curves | {v.name: v.curve for v in verifiers}),
        _gains(chosen),
        _verifiers(verifiers),
        _parts("Repository", summary.by_repository) if len(summary.by_repository) < 40 else "",
        _parts("Difficulty", summary.by_difficulty),
        _counts("Ended by", summary.endings),
        _counts("Flag", summary.flags),
        _lengths(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def percent(estimate: Estimate) -> str:
    """With its 95 % interval."""
    low, high = estimate.interval
    return f"{estimate.value:.1%} ({low:.1%} to {high:.1%})"


def _head(config: EvalConfig, summary: Summary) -> str:
    lines = [
        f"- pass@1: {percent(summary.pass_1)}, 95 % interval clustered by task"
        if summary.pass_1
        else "- nothing is scored",
        f"- {summary.num_tasks} tasks, {config.rollout.group_size} rollouts each; "
        f"{summary.num_scored} of {summary.num_rollouts} rollouts have a score",
        f"- temperature {config.rollout.temperature:g}, at most {config.rollout.max_turns} turns and "
        f"{config.rollout.max_response_tokens} tokens after the prompt, {config.sandbox.backend}",
    ]
    return "\n".join(lines)


def _curves(curves: Mapping[str, Sequence[float]]) -> str:
    longest = max(map(len, curves.values()), default=0)
    shown = [k for k in SHOWN_K if k < longest] + ([longest] if longest else [])
    rows = [
        [name if name == "pass@k" else f"best@k, {name}", *(f"{values[k - 1]:.1%}" for k in shown)]
        for name, values in curves.items()
    ]
    return table(["", *(f"k = {k}" for k in shown)], rows) if rows else ""


def _gains(chosen: Sequence[Method]) -> str:
    """What each way to choose gains at the largest k, in points; nothing to tell where there is one rollout a task."""
    if not chosen or len(chosen[0].curve) < 2:
        return ""
    rows = [
        [method.name, f"{method.best:.1%}", *map(points, method.gains_in_order)]
        for method in chosen
    ]
    head = [f"best@{len(chosen[0].curve)}", "", *(f"over {baseline}" for baseline in BASELINES)]
    note = "Gains in points with 95 % intervals, by the paired bootstrap over tasks."
    return f"{table(head, rows)}\n\n{note}"


def points(gain: Difference | None) -> str:
    """`+3.1 (0.4 to 6.0)`."""
    if gain is None:
        return "–"
    low, high = gain.interval
    return f"{100 * gain.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _verifiers(verifiers: Sequence[Verified]) -> str:
    rows = [
        [v.name, str(v.num_scored), "–" if v.auc is None else f"{v.auc:.3f}"] for v in verifiers
    ]
    return table(["Verifier", "rollouts scored", "AUC"], rows) if rows else ""


def _parts(title: str, parts: Sequence[Part]) -> str:
    rows = [[p.name, str(p.estimate.num_tasks), percent(p.estimate)] for p in parts]
    return table([title, "tasks", "pass@1"], rows) if rows else ""


def _counts(title: str, counts: Mapping[str, int]) -> str:
    rows = [[name, str(count)] for name, count in counts.items()]
    return table([title, "rollouts"], rows) if rows else ""


def _lengths(summary: Summary) -> str:
    if summary.lengths is None:
        return ""
    mean = summary.lengths
    return (
        f"A scored rollout took {mean.num_turns:.1f} turns, {mean.num_sampled_tokens:.0f} sampled tokens and "
        f"{mean.seconds:.1f} s on average, and {mean.grade_s:.1f} s to grade. All rollouts together: "
        f"{summary.num_sampled_tokens} sampled tokens, {summary.rollout_hours:.2f} rollout hours."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
