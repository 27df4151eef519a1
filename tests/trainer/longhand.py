"""GRPO++ written out longhand in Python's 64-bit floats, from the published formulas, to compare the trainer with.

Loops over rollouts and tokens, derivatives by hand, nothing imported from the trainer's mathematics. `Setting` names
the position of each of the seven parts.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Setting(NamedTuple):
    low: float = 0.20
    high: float = 0.28
    kl_coef: float = 0.0
    divide_by_std: bool = False
    normalizer: str = "constant"
    leave_one_out: bool = True
    filtered_reasons: tuple[str, ...] = ("max_context", "max_turns", "timeout")
    entropy_coef: float = 0.0
    filtered_in_baseline: bool = True
    correction: str = "none"
    cap: float = 2.0
    floor: float = 0.5
    max_response_tokens: int = 40


class Token(NamedTuple):
    """One sampled token. All log-probabilities in nats."""

    name: int
    logprob: float
    old: float
    sampled: float
    reference: float
    entropy: float


class Attempt(NamedTuple):
    reward: float | None
    reason: str
    tokens: list[Token]


class Answer(NamedTuple):
    loss: float
    by_logprob: dict[int, float]
    """d loss / d log-probability of each token, by its name."""
    by_entropy: dict[int, float]


def advantages(group: Sequence[Attempt], s: Setting) -> list[float]:
    out = []
    for i, me in enumerate(group):
        me_left_out = me.reason in s.filtered_reasons and not s.filtered_in_baseline
        if me.reward is None or me_left_out:
            out.append(0.0)
            continue
        everyone, others = [], []
        for j, other in enumerate(group):
            if other.reward is None:
                continue
            if other.reason in s.filtered_reasons and not s.filtered_in_baseline:
                continue
            everyone.append(other.reward)
            if j != i:
                others.append(other.reward)
        if not others:
            out.append(0.0)
            continue
        baseline = sum(others) / len(others) if s.leave_one_out else sum(everyone) / len(everyone)
        a = me.reward - baseline
        if s.divide_by_std:
            mean = sum(everyone) / len(everyone)
            variance = sum((r - mean) ** 2 for r in everyone) / (len(everyone) - 1)
            a = a / (math.sqrt(variance) + 1e-6)
        out.append(a)
    return out


def loss_and_gradient(batch: Sequence[Sequence[Attempt]], s: Setting) -> Answer:
    num_rollouts = 0
    num_tokens = 0
    for group in batch:
        for attempt in group:
            if attempt.reward is not None:
                num_rollouts += 1
                if attempt.reason not in s.filtered_reasons:
                    num_tokens += len(attempt.tokens)

    loss = 0.0
    by_logprob: dict[int, float] = {}
    by_entropy: dict[int, float] = {}
    for group in batch:
        for attempt, a in zip(group, advantages(group, s), strict=True):
            masked = attempt.reward is None or attempt.reason in s.filtered_reasons
            for t in attempt.tokens:
                by_logprob[t.name] = by_entropy[t.name] = 0.0
                if masked:
                    continue
                if s.normalizer == "constant":
                    weight = 1 / (num_rollouts * s.max_response_tokens)
                elif s.normalizer == "tokens":
                    weight = 1 / num_tokens
                else:
                    weight = 1 / num_rollouts / len(attempt.tokens)

                correct = 1.0
                between = math.exp(t.old - t.sampled)
                if s.correction == "tis":
                    correct = min(between, s.cap)
                if s.correction == "icepop":
                    correct = between if s.floor <= between <= s.cap else 0.0

                ratio = math.exp(t.logprob - t.old)
                if a > 0 and ratio > 1 + s.high:
                    gain, slope = a * (1 + s.high), 0.0
                elif a < 0 and ratio < 1 - s.low:
                    gain, slope = a * (1 - s.low), 0.0
                else:
                    gain, slope = a * ratio, a * ratio
                loss -= weight * correct * gain
                by_logprob[t.name] -= weight * correct * slope

                apart = t.reference - t.logprob
                loss += weight * s.kl_coef * (math.exp(apart) - apart - 1)
                by_logprob[t.name] += weight * s.kl_coef * (1 - math.exp(apart))

                loss -= weight * s.entropy_coef * t.entropy
                by_entropy[t.name] -= weight * s.entropy_coef
    return Answer(loss, by_logprob, by_entropy)


DEEPSWE = Setting()
PLAIN_GRPO = Setting(
    high=0.20,
    kl_coef=0.001,
    divide_by_std=True,
    normalizer="sequence",
    leave_one_out=False,
    filtered_reasons=(),
    entropy_coef=0.001,
)
SETTINGS = {
    "all_on": DEEPSWE,
    "symmetric_clip": DEEPSWE._replace(high=0.20),
    "kl": DEEPSWE._replace(kl_coef=0.05),
    "std": DEEPSWE._replace(divide_by_std=True),
    "tokens": DEEPSWE._replace(normalizer="tokens"),
    "sequence": DEEPSWE._replace(normalizer="sequence"),
    "mean_baseline": DEEPSWE._replace(leave_one_out=False),
    "no_filter": DEEPSWE._replace(filtered_reasons=()),
    "entropy": DEEPSWE._replace(entropy_coef=0.03),
    "filtered_left_out": DEEPSWE._replace(filtered_in_baseline=False),
    "tis": DEEPSWE._replace(correction="tis", cap=1.2),
    "icepop": DEEPSWE._replace(correction="icepop", cap=1.2, floor=0.75),
    "all_off": PLAIN_GRPO,
}
"""Each part of GRPO++ moved to its other positions, by itself and together."""


def algorithm_section(s: Setting) -> dict[str, object]:
    """The same positions as fields of `[algorithm]`."""
    return {
        "clip_ratio_low": s.low,
        "clip_ratio_high": s.high,
        "kl_coef": s.kl_coef,
        "normalize_std": s.divide_by_std,
        "loss_normalizer": s.normalizer,
        "baseline": "leave_one_out" if s.leave_one_out else "mean",
        "compact_filtering": list(s.filtered_reasons),
        "filtered_in_baseline": s.filtered_in_baseline,
        "entropy_coef": s.entropy_coef,
        "importance_correction": s.correction,
        "importance_cap": s.cap,
        "importance_floor": s.floor,
        "old_logprobs": "sampled" if s.correction == "none" else "recomputed",
    }
