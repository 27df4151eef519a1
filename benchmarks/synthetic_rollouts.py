"""Groups of random tokens in a wanted shape, scored like real ones: what a measurement of the update alone needs.

Nothing is sampled: the sampler's log-probabilities are one number, so ratios and losses say nothing, only times and memory do.
"""

import random
from collections.abc import Sequence
from uuid import UUID

from benchmarks.measurement import alternating_rewards
from trainer.config import AlgorithmConfig
from trainer.grpo.rollout import Rollout, ScoredGroup, score_group

SAMPLED_LOGPROB = -1.0
"""Nats."""


def synthetic_group(
    prompt_ids: Sequence[int],
    response_lengths: Sequence[int],
    *,
    vocabulary: int,
    algorithm: AlgorithmConfig,
    rng: random.Random,
) -> ScoredGroup:
    """A group with mixed rewards, a rollout for each length; every response token is a loss token, none is shared."""
    group = _uuid(rng)
    rollouts = []
    for index, (length, reward) in enumerate(
        zip(response_lengths, alternating_rewards(len(response_lengths)), strict=True)
    ):
        rollout = Rollout(
            id=_uuid(rng),
            group=group,
            index=index,
            task_id="synthetic",
            step=1,
            purpose="train",
            policy_version=0,
            prompt_ids=list(prompt_ids),
            termination_reason="finished",
            reward=reward,
        )
        rollout.append_sampled(
            random_tokens(length, vocabulary, rng), [SAMPLED_LOGPROB] * length, policy_version=0
        )
        rollouts.append(rollout)
    return score_group(rollouts, algorithm)


def random_tokens(length: int, vocabulary: int, rng: random.Random) -> list[int]:
    return [rng.randrange(vocabulary) for _ in range(length)]


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128))
