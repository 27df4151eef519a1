"""What a rollout is to the trainer: token ids, a loss mask, log-probabilities and a reward.

Token ids come from the engine and are never encoded again; the readable side is `sandbox.trajectory`.

Worked example, two turns (P = prompt, A = sampled, O = observation and chat template around it):

    prompt_ids      P P P
    response_ids          A0 A0 A0 O0 O0 A1 A1
    loss_mask              1  1  1  0  0  1  1
    logprobs              l0 l1 l2  0  0 l5 l6
    policy_versions        3  3  3  0  0  4  4
"""

from dataclasses import dataclass, field
from uuid import UUID

from sandbox.errors import Outcome
from sandbox.trajectory import Turn
from trainer.config import AlgorithmConfig
from trainer.events import Purpose, TerminationReason
from trainer.grpo.advantage import group_advantages


@dataclass(kw_only=True)
class Rollout:
    """One attempt at a task. R is the number of response tokens."""

    id: UUID
    group: UUID
    index: int
    task_id: str
    step: int
    purpose: Purpose
    policy_version: int
    """Of the weights that answered when it began."""
    prompt_ids: list[int]
    repetition: int = 0
    """How many groups of this step had its task before: a small pool is drawn from again."""
    response_ids: list[int] = field(default_factory=list)
    """[R] sampled and observation tokens, in order."""
    loss_mask: list[int] = field(default_factory=list)
    """[R] 1 for a sampled token (a stop string's tokens included), 0 otherwise."""
    logprobs: list[float] = field(default_factory=list)
    """[R] the sampler's log-probability at its temperature, in nats; 0 where loss_mask is 0."""
    policy_versions: list[int] = field(default_factory=list)
    """[R] of the weights that answered when a sampled token's turn began; 0 where loss_mask is 0."""
    turns: list[Turn] = field(default_factory=list)
    termination_reason: TerminationReason = "infra"
    outcome: Outcome = Outcome.INFRA
    reward: float | None = None
    """0 or 1; None if and only if the outcome is INFRA."""
    flags: frozenset[str] = frozenset()
    patch: bytes = b""
    tests: dict[str, str] = field(default_factory=dict)
    test_log: bytes = b""
    reason: str = ""
    start_s: float = 0.0
    """Until its sandbox was there."""
    seconds: float = 0.0
    """Until its last turn or failure; grading comes after."""
    grade_s: float = 0.0

    @property
    def num_sampled_tokens(self) -> int:
        return sum(self.loss_mask)

    @property
    def sampled_versions(self) -> list[int]:
        """Policy version of each sampled token, in order; it never falls."""
        return [v for v, m in zip(self.policy_versions, self.loss_mask, strict=True) if m]

    def append_sampled(
        self, token_ids: list[int], logprobs: list[float], policy_version: int
    ) -> None:
        self.response_ids += token_ids
        self.loss_mask += [1] * len(token_ids)
        self.logprobs += logprobs
        self.policy_versions += [policy_version] * len(token_ids)

    def append_observed(self, token_ids: list[int]) -> None:
        self.response_ids += token_ids
        self.loss_mask += [0] * len(token_ids)
        self.logprobs += [0.0] * len(token_ids)
        self.policy_versions += [0] * len(token_ids)


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """A group with its advantages: what `trainer.grpo.batch` packs."""

    id: UUID
    rollouts: list[Rollout]
    advantages: list[float]
    """[G], by `trainer.grpo.advantage`."""
    filtered: list[bool]
    """[G], True where compact filtering (or INFRA) takes the rollout out of the loss."""

    @property
    def task_id(self) -> str:
        return self.rollouts[0].task_id

    @property
    def solve_rate(self) -> float | None:
        """Mean reward of the rollouts that are not INFRA, filtered ones included; None when there is none."""
        rewards = [r.reward for r in self.rollouts if r.reward is not None]
        return sum(rewards) / len(rewards) if rewards else None

    @property
    def trained(self) -> bool:
        """Whether any rollout carries a gradient."""
        return any(a != 0 and not f for a, f in zip(self.advantages, self.filtered, strict=True))


def score_group(rollouts: list[Rollout], algorithm: AlgorithmConfig) -> ScoredGroup:
    """The group of these graded rollouts, all of one task: which are filtered, and every advantage."""
    filtered = [
        r.reward is None or r.termination_reason in algorithm.compact_filtering for r in rollouts
    ]
    advantages = group_advantages(
        [r.reward for r in rollouts],
        filtered,
        baseline=algorithm.baseline,
        normalize_std=algorithm.normalize_std,
        filtered_in_baseline=algorithm.filtered_in_baseline,
    )
    return ScoredGroup(
        id=rollouts[0].group, rollouts=rollouts, advantages=advantages, filtered=filtered
    )
