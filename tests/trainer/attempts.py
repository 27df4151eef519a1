"""Rollouts for tests, written as a pattern of turns: "PP AAA OO A" is a prompt of 2 tokens, 3 sampled, 2 observed, 1 sampled.

Every token id of a batch may be made different (`first_id`), so that a row's token is found again by its id. No engine
and no sandbox: what a rollout looks like when it comes out of them, no more.
"""

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sandbox.errors import Outcome
from trainer.config import TrainConfig, parse_config
from trainer.events import TerminationReason
from trainer.grpo.rollout import Rollout, ScoredGroup, score_group

GROUP = UUID(int=1)


def make_config(**sections: Any) -> TrainConfig:
    """A configuration in DeepSWE's positions with L_max = 40; `sections` are laid over it."""
    base: dict[str, Any] = {
        "recipe": "test",
        "num_steps": 1,
        "model": {"dtype": "float32"},
        "rollout": {"max_response_tokens": 40, "max_turn_tokens": 20},
        "engine": {"max_model_len": 8192},
        "optimizer": {"max_grad_norm": 1e9, "skip_grad_norm": 1e9, "weight_decay": 0.0},
    }
    for name, fields in sections.items():
        base[name] = base.get(name, {}) | fields if isinstance(fields, dict) else fields
    return parse_config(base)


def make_rollout(
    pattern: str,
    reward: float | None,
    *,
    reason: TerminationReason = "finished",
    ids: Sequence[int],
    prompt_ids: Sequence[int],
    rng: random.Random,
    group: UUID = GROUP,
) -> Rollout:
    """`pattern` of A (sampled) and O (observed), one letter a token; `ids` are the response's tokens."""
    letters = pattern.replace(" ", "")
    rollout = Rollout(
        id=UUID(int=rng.getrandbits(128)),
        group=group,
        index=0,
        task_id="tests/one",
        step=1,
        purpose="train",
        policy_version=0,
        prompt_ids=list(prompt_ids),
    )
    for letter, token in zip(letters, ids, strict=True):
        if letter == "A":
            rollout.append_sampled([token], [-rng.uniform(0.2, 6.0)], 0)
        else:
            rollout.append_observed([token])
    rollout.reward = reward
    rollout.outcome = Outcome.INFRA if reward is None else Outcome.TASK
    rollout.termination_reason = "infra" if reward is None else reason
    return rollout


Attempt = tuple[str, float | None, TerminationReason]
"""(pattern, reward, termination reason)."""


def make_groups(
    attempts: Sequence[Sequence[Attempt]],
    config: TrainConfig,
    *,
    prompt_lengths: Sequence[int] = (5, 3, 7, 4, 6),
    vocabulary: int = 0,
    seed: int = 0,
) -> list[ScoredGroup]:
    """One scored group for each list of attempts. Token ids count up, or are drawn below `vocabulary`."""
    rng = random.Random(seed)
    next_id = 0

    def take(count: int) -> list[int]:
        nonlocal next_id
        next_id += count
        counted = range(next_id - count, next_id)
        return [rng.randrange(vocabulary) if vocabulary else i for i in counted]

    groups = []
    for number, (members, length) in enumerate(zip(attempts, prompt_lengths, strict=False)):
        prompt_ids = take(length)
        rollouts = [
            make_rollout(
                pattern,
                reward,
                reason=reason,
                ids=take(len(pattern.replace(" ", ""))),
                prompt_ids=prompt_ids,
                rng=rng,
                group=UUID(int=number + 1),
            )
            for pattern, reward, reason in members
        ]
        groups.append(score_group(rollouts, config.algorithm))
    return groups


MIXED: list[list[Attempt]] = [
    [
        ("AAA OO AA", 1.0, "finished"),
        ("AAAA O AAA OOO A", 0.0, "finished"),
        ("A OO A", 0.0, "max_turns"),
        ("AA OOO AAAAA O", 1.0, "max_turns"),
        ("AAA", None, "infra"),
        ("O AA O AA", 0.0, "finished"),
    ],
    [("AA O A", 0.0, "finished"), ("AAA", 0.0, "finished"), ("AA", 0.0, "timeout")],
    [("AA OO AAA", 1.0, "finished"), ("AAAAAA", 1.0, "max_context"), ("AA", 0.0, "finished")],
    [("AAA", 1.0, "finished")],
]
"""Multi-turn groups with everything that may occur: both rewards, each filter, INFRA, no signal, a group of one."""


def begin_alike(groups: Sequence[ScoredGroup], *, num_prompt: int, num_response: int) -> None:
    """Give all prompts their first tokens in common, and the rollouts of a group those of its first response."""
    instruction = groups[0].rollouts[0].prompt_ids[:num_prompt]
    for group in groups:
        said = group.rollouts[0].response_ids[:num_response]
        for rollout in group.rollouts:
            rollout.prompt_ids = [*instruction, *rollout.prompt_ids[num_prompt:]]
            alike = said[: len(rollout.response_ids)]
            rollout.response_ids = [*alike, *rollout.response_ids[len(alike) :]]
