"""One rollout: prompt -> action -> observation, until the agent finishes or a limit ends it.

Synchronous; each rollout runs on one thread and owns one sandbox. This module decides the termination reason; what a
reward is worth to training is `trainer.grpo.advantage`'s business, and what the tests said is `sandbox.grading`'s.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.environment import Environment, StepResult
from sandbox.errors import Outcome, SandboxError, outcome_of
from sandbox.trajectory import Turn
from trainer.config import RolloutConfig
from trainer.engines.chat import Chat
from trainer.engines.generate import (
    Completion,
    ContextFull,
    Engine,
    EngineUnavailable,
    GenerationTimeout,
)
from trainer.events import TerminationReason
from trainer.grpo.rollout import Rollout
from trainer.metrics.stopwatch import BusyClock
from trainer.stop import RunStopped


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What every rollout of a run shares."""

    engine: Engine
    chat: Chat
    limits: RolloutConfig
    stopping: Callable[[], bool]
    on_turn: Callable[[Rollout, Turn, int], None]
    """Called after each turn, with the policy version that it began with."""
    engine_clock: BusyClock

    def run(self, rollout: Rollout, environment: Environment, seed: int) -> None:
        """Fill in `rollout` up to its termination reason, patch and (for INFRA or AGENT_FAULT) outcome.

        Raises RunStopped.
        """
        started = time.monotonic()
        try:
            environment.reset()
            rollout.start_s = time.monotonic() - started
            rollout.termination_reason = self._turns(
                rollout, environment, seed, started + self.limits.timeout_s
            )
            rollout.patch = environment.patch()
            rollout.outcome = Outcome.TASK
        except EngineUnavailable as error:
            rollout.reason = str(error)
        except SandboxError as error:
            rollout.outcome, rollout.reason = outcome_of(error), str(error)
        if rollout.outcome is Outcome.AGENT_FAULT:
            rollout.termination_reason, rollout.reward = "agent_fault", 0.0
        elif rollout.outcome is Outcome.INFRA:
            rollout.termination_reason, rollout.reward = "infra", None
        rollout.seconds = time.monotonic() - started

    def _turns(
        self, rollout: Rollout, environment: Environment, seed: int, deadline: float
    ) -> TerminationReason:
        limits = self.limits
        for index in range(limits.max_turns):
            if self.stopping():
                raise RunStopped
            room = limits.max_response_tokens - len(rollout.response_ids)
            if room <= 0:
                return "max_context"
            if time.monotonic() >= deadline:
                return "timeout"
            began = time.monotonic()
            prompt_ids = rollout.prompt_ids + rollout.response_ids
            try:
                with self.engine_clock.call():
                    completion = self.engine.complete(
                        prompt_ids,
                        max_tokens=min(limits.max_turn_tokens, room),
                        temperature=limits.temperature,
                        seed=seed + index,
                        timeout_s=deadline - time.monotonic(),
                        rollout=rollout.id,
                    )
            except GenerationTimeout:
                return "timeout"
            except ContextFull:
                return "max_context"
            generate_s = time.monotonic() - began
            rollout.append_sampled(
                completion.token_ids, completion.logprobs, completion.policy_version
            )
            result = environment.step(completion.text)
            turn = _turn(index, completion, result, len(prompt_ids), generate_s)
            rollout.turns.append(turn)
            self.on_turn(rollout, turn, completion.policy_version)
            if result.done:
                return "finished"
            observed = self.chat.encode_observation(result.observation, completion.token_ids[-1])
            if len(rollout.response_ids) + len(observed) >= limits.max_response_tokens:
                return "max_context"
            rollout.append_observed(observed)
        return "max_turns"


def _turn(
    index: int,
    completion: Completion,
    result: StepResult,
    num_prompt_tokens: int,
    generate_s: float,
) -> Turn:
    return Turn(
        index=index,
        text=completion.text,
        thought=result.thought,
        action=result.action,
        error=result.error,
        observation=result.observation,
        observation_truncated=result.observation_truncated,
        exit_code=result.exit_code,
        num_prompt_tokens=num_prompt_tokens,
        num_sampled_tokens=len(completion.token_ids),
        generate_s=round(generate_s, 3),
        tool_s=round(result.tool_s, 3),
    )
