"""What the agent loop needs of an engine: token ids in, token ids and log-probabilities out.

`Engine` is the seam; `trainer.vllm_engine` speaks to a vLLM server over HTTP, `trainer.transformers_engine` generates in
process where no vLLM can be installed. Sampling never truncates the distribution (top_p = 1, top_k off), so the returned
log-probabilities are those of the distribution that was sampled from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

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
    """[T] nats, at the sampling temperature."""
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
    ) -> Completion:
        """Sample until STOP, the model's end of turn or `max_tokens`. Thread-safe.

        Raises EngineUnavailable, GenerationTimeout, ContextFull.
        """
        ...

    def load_weights(self, folder: Path, policy_version: int) -> None:
        """Answer with the weights in `folder` from now on. Raises EngineUnavailable naming the version."""
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
        from trainer.vllm_engine import VllmEngine

        return VllmEngine(config, run_dir / "engine.log", stopping)
    from trainer.transformers_engine import TransformersEngine

    return TransformersEngine(config)
