"""When something is wrong with a run, in a plain sentence with a remedy. Light: standard library and `trainer.events` only.

Pure: `changes` takes the metrics of all steps so far and tells which alarms to raise and which to clear. An alarm is raised
once, stands while its value is bad, and is cleared below a second, lower limit, so that it does not flicker. The limits of
no_signal, truncated and aborted are those of the miles dashboard's health rules, that of mismatch is the bound of prime-rl's
integration test; entropy, filtered and stall are our own.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from trainer.events import Alarm, AnyEvent, Metric, Resumed

Metrics = Mapping[str, Metric]
History = Sequence[Metrics]
"""One step's metrics after the other, the newest last."""

WINDOW = 2
"""Steps that a rate is taken over."""
FILTERED_WINDOW = 4
ENTROPY_STEPS = 3
"""The first steps are compared with as many newest ones."""
STALL = "stall"
STALL_FACTOR = 6.0
SHORTEST_STALL_S = 300.0
FIRST_STEP_STALL_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    name: str
    measure: Callable[[History], float | None]
    """None where the steps so far say nothing."""
    limit: float
    """Raised from here on."""
    clear_below: float
    strict: bool = False
    """Raised only above the limit."""
    sentence: str
    """Holds {value}."""
    remedy: str

    def is_bad(self, value: float, *, stands: bool) -> bool:
        if stands:
            return value >= self.clear_below
        return value > self.limit if self.strict else value >= self.limit


def changes(history: History, standing: Collection[str], step: int) -> list[Alarm]:
    """Alarms to raise, and alarms of `standing` rules to clear, now that `step` is the newest of `history`."""
    told = []
    for rule in RULES:
        value, stands = rule.measure(history), rule.name in standing
        if value is None or rule.is_bad(value, stands=stands) == stands:
            continue
        told.append(
            Alarm(
                step=step,
                rule=rule.name,
                sentence=rule.sentence.format(value=value),
                remedy="" if stands else rule.remedy,
                cleared=stands,
            )
        )
    return told


def stall(step: int, elapsed_s: float, earlier_s: Sequence[float]) -> Alarm | None:
    """The alarm of a step that has been going on for far longer than those before it."""
    usual = median(earlier_s) if earlier_s else 0.0
    limit = max(SHORTEST_STALL_S, STALL_FACTOR * usual) if earlier_s else FIRST_STEP_STALL_S
    if elapsed_s < limit:
        return None
    compared = f"; the steps before took {usual:.0f} s" if earlier_s else ""
    return Alarm(
        step=step,
        rule=STALL,
        sentence=f"Step {step} has been going on for more than {limit / 60:.0f} minutes{compared}.",
        remedy="See what is in flight on the live page, and engine.log in the run's folder. A stop saves a checkpoint.",
    )


def standing_alarms(events: Iterable[AnyEvent]) -> dict[str, Alarm]:
    """By rule, what was raised and not cleared; alarms of steps that were done over count no more."""
    told: list[Alarm] = []
    for event in events:
        if isinstance(event, Resumed):
            told = [alarm for alarm in told if alarm.step <= event.from_step]
        elif isinstance(event, Alarm):
            told.append(event)
    newest = {alarm.rule: alarm for alarm in told}
    return {rule: alarm for rule, alarm in newest.items() if not alarm.cleared}


def _rate(history: History, name: str, window: int = WINDOW) -> float | None:
    """Sum over sum of the newest steps; None when nothing was counted."""
    pairs = [metrics[name] for metrics in history[-window:] if name in metrics]
    total = sum(denominator for _, denominator in pairs)
    return sum(numerator for numerator, _ in pairs) / total if total else None


def _without_signal(history: History) -> float | None:
    trained = _rate(history, "groups/trained")
    return None if trained is None else 1.0 - trained


def _entropy_lost(history: History) -> float | None:
    """The share of the first steps' entropy that the newest have lost."""
    measured = [metrics for metrics in history if metrics.get("entropy", (0, 0))[1]]
    if len(measured) < 2 * ENTROPY_STEPS:
        return None
    first = _rate(measured[:ENTROPY_STEPS], "entropy", ENTROPY_STEPS)
    newest = _rate(measured, "entropy", ENTROPY_STEPS)
    return 1.0 - newest / first if first and newest is not None else None


RULES = (
    Rule(
        name="no_signal",
        measure=_without_signal,
        limit=0.50,
        clear_below=0.40,
        sentence="{value:.0%} of the newest groups show no difference in reward and train nothing.",
        remedy="Practise on tasks that are solved now and then (tasks.only, tasks.difficulties), let the others rest "
        "(tasks.rest_after_visits), or draw extra groups (tasks.max_extra_groups).",
    ),
    Rule(
        name="truncated",
        measure=lambda history: _rate(history, "truncated/fraction"),
        limit=0.25,
        clear_below=0.20,
        sentence="{value:.0%} of the newest rollouts were cut short by a limit on turns, context or time.",
        remedy="Raise the limit that the chart of termination reasons names (rollout.max_turns, max_response_tokens, "
        "timeout_s), or show in the prompt how an attempt ends.",
    ),
    Rule(
        name="aborted",
        measure=lambda history: _rate(history, "outcome/infra"),
        limit=0.05,
        clear_below=0.025,
        strict=True,
        sentence="{value:.0%} of the newest rollouts were lost to the engine or the sandbox.",
        remedy="Their pages and engine.log say why. On an overloaded machine lower rollout.concurrency and "
        "sandbox.concurrency.",
    ),
    Rule(
        name="mismatch",
        measure=lambda history: _rate(history, "mismatch/kl"),
        limit=0.01,
        clear_below=0.005,
        strict=True,
        sentence="Sampler and trainer disagree about the same tokens: KL {value:.4f} nats a token; up to 0.01 is usual.",
        remedy="See that the engine has the newest weights. A small lasting difference is corrected by old_logprobs = "
        '"recomputed" with importance_correction (algorithm).',
    ),
    Rule(
        name="entropy",
        measure=_entropy_lost,
        limit=0.75,
        clear_below=0.65,
        sentence="Entropy has fallen by {value:.0%} since the first steps: the policy hardly explores any more.",
        remedy="Go back to an earlier checkpoint with a lower optimizer.learning_rate, or a higher "
        "algorithm.clip_ratio_high or rollout.temperature.",
    ),
    Rule(
        name="filtered",
        measure=lambda history: _rate(history, "filtered/solved", FILTERED_WINDOW),
        limit=0.25,
        clear_below=0.20,
        sentence="{value:.0%} of the newest solutions are filtered out: solved, but cut short, so they train nothing.",
        remedy="Raise the limit that cuts them, or take its reason out of algorithm.compact_filtering.",
    ),
)
