"""What the agent loop needs of an engine: token ids in, token ids and log-probabilities out.

`Engine` is the seam; `trainer.engines.vllm_engine` speaks to a vLLM server over HTTP, `trainer.engines.transformers_engine`
generates in process where no vLLM can be installed. Sampling never truncates the distribution (top_p = 1, top_k off), so the
returned log-probabilities are those of the distribution that was sampled from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from trainer.config import TrainConfig

STOP = "</function>"
"""Ends a turn; the text and tokens of a completion include it."""


class EngineUnavailable(RuntimeError):
    """The engine died or did not answer. The completion was not sampled; its rollout is INFRA."""


class GenerationTimeout(TimeoutError):
    """The rollout's own deadline passed while the engine was sampling."""


class ContextFull(RuntimeError):
    """The engine admits no prompt of this length: the rollout ends as max_context."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled turn of T tokens."""

    text: str
    token_ids: list[int]
    """[T], the stop string's tokens included."""
    logprobs: list[float]
    """[T] nats, at the sampling temperature, by the weights that sampled each token."""
    policy_version: int
    """Of the weights that answered when the turn began. Where new ones arrive in the middle of it (`Engine.load_weights`), its
    later tokens are of those: none is older than this says."""
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    policy_version: int
    """Of the weights that answer now."""

    def complete(
        self,
        prompt_ids: list[int],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        timeout_s: float,
        rollout: UUID | None = None,
    ) -> Completion:
        """Sample until STOP, the model's end of turn or `max_tokens`. Thread-safe.

        `rollout` is that of the turn, which `trainer.engines.pool` keeps on one replica.

        Raises EngineUnavailable, GenerationTimeout, ContextFull.
        """
        ...

    def load_weights(self, folder: Path, policy_version: int) -> None:
        """Answer with the weights in `folder` from now on. Raises EngineUnavailable naming the version.

        Requests in flight are never lost: vLLM freezes them, drops what it had computed for them and goes on with the new
        weights; transformers ends them with the old weights first.
        """
        ...

    def revive(self) -> bool:
        """Start a dead engine again with the last weights; True when it was dead.

        Raises EngineUnavailable, RunStopped.
        """
        ...

    def close(self) -> None:
        """End every process and request, those that wait included. Safe to call twice."""
        ...


def start_engine(
    config: TrainConfig, run_dir: Path, stopping: Callable[[], bool] = lambda: False
) -> Engine:
    """The engine that `config.engine.kind` names, ready to answer.

    Raises EngineUnavailable with the log's end, RunStopped when the run stops meanwhile.
    """
    if config.engine.kind == "vllm":
        from trainer.engines.pool import start_all
        from trainer.engines.vllm_engine import VllmEngine

        if config.engine.replicas == 1:
            return VllmEngine(config, run_dir / "engine.log", stopping)
        return start_all(
            [
                partial(VllmEngine, config, run_dir / f"engine-{number}.log", stopping, number)
                for number in range(config.engine.replicas)
            ]
        )
    from trainer.engines.transformers_engine import TransformersEngine

    return TransformersEngine(config)
