"""Step times of two trainers -> means, ratios and a Markdown table. Pure; it measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.measurement import StepTime

PHASES = ("sampling", "update", "whole")
AIMS = {"update": 6.0, "whole": 12.0}
"""How many times as fast as TRL a phase is meant to be, by its seconds a step."""
CEILING_AIM = 0.30
"""Share of the machine's own matrix products that the update is meant to reach."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Means over the measured steps of one trainer."""

    seconds: dict[str, float]
    """Phase -> seconds a step."""
    num_rollouts: float
    """A step."""
    prompt_tokens: float
    """A rollout."""
    sampled_tokens: float
    """A rollout."""
    update_tflops: float
    matmul_tflops: float

    @property
    def milliseconds_per_token(self) -> dict[str, float]:
        """Phase -> milliseconds a sampled token."""
        tokens = self.num_rollouts * self.sampled_tokens
        return {phase: 1000 * seconds / tokens for phase, seconds in self.seconds.items()}


def summarise(steps: Sequence[StepTime], *, warmup: int) -> Summary:
    """Means without the first `warmup` steps. Raises ValueError when none is left."""
    measured = steps[warmup:]
    if not measured:
        raise ValueError(
            f"warmup={warmup}: leaves none of {len(steps)} step(s) to measure; take more steps"
        )
    rollouts = sum(step.num_rollouts for step in measured)
    return Summary(
        seconds={
            phase: fmean(getattr(step, f"{phase}_s") for step in measured) for phase in PHASES
        },
        num_rollouts=rollouts / len(measured),
        prompt_tokens=sum(step.prompt_tokens for step in measured) / rollouts,
        sampled_tokens=sum(step.sampled_tokens for step in measured) / rollouts,
        update_tflops=fmean(step.update_tflops for step in measured),
        matmul_tflops=fmean(step.matmul_tflops for step in measured),
    )


def ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Phase -> how many times as long theirs takes."""
    return {phase: theirs[phase] / ours[phase] for phase in PHASES}


def table(ours: Summary, theirs: Summary, theirs_name: str) -> str:
    """Markdown: each phase by the step and by the sampled token, and how much was sampled."""
    rows = [["", "ours", theirs_name, "ratio", "aim"], ["---", "---:", "---:", "---:", "---:"]]
    rows += _phase_rows("s a step", ours.seconds, theirs.seconds, AIMS)
    per_token = ours.milliseconds_per_token, theirs.milliseconds_per_token
    rows += _phase_rows("ms a sampled token", *per_token, {})
    for name in ("sampled_tokens", "prompt_tokens"):
        label = f"{name.replace('_', ' ')} a rollout"
        rows.append([label, f"{getattr(ours, name):.1f}", f"{getattr(theirs, name):.1f}", "", ""])
    rows.append(
        ["rollouts a step", f"{ours.num_rollouts:.0f}", f"{theirs.num_rollouts:.0f}", "", ""]
    )
    rows += _flop_rows(ours)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _flop_rows(ours: Summary) -> list[list[str]]:
    if not ours.matmul_tflops:
        return []
    share = ours.update_tflops / ours.matmul_tflops
    return [
        ["update, TFLOP/s", f"{ours.update_tflops:.2f}", "", "", ""],
        ["matrix products alone, TFLOP/s", f"{ours.matmul_tflops:.2f}", "", "", ""],
        ["update, share of them", f"{share:.0%}", "", "", f"{CEILING_AIM:.0%}"],
    ]


def _phase_rows(
    unit: str, ours: dict[str, float], theirs: dict[str, float], aims: dict[str, float]
) -> list[list[str]]:
    return [
        [
            f"{phase}, {unit}",
            f"{ours[phase]:.1f}",
            f"{theirs[phase]:.1f}",
            f"{ratio:.1f}",
            f"{aims[phase]:.0f}" if phase in aims else "",
        ]
        for phase, ratio in ratios(ours, theirs).items()
    ]
