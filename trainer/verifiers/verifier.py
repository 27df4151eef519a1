"""How likely a model says YES to "is the issue solved?": a score in (0, 1) for a rollout, without running anything.

score = P(YES) / (P(YES) + P(NO)) where the answer's first word stands, as in R2E-Gym's execution-free verifier. Two ways to
ask: a model in this process (exact, by teacher forcing), and an OpenAI-compatible endpoint (from its top 20 log-
probabilities); the first is `trainer.verifiers.local`'s. What a score belongs to is the caller's to keep: `trainer.verify` ties
it to the rollout's id.
"""

import math
from typing import Any, Protocol

from trainer.engines.generate import EngineUnavailable
from trainer.evaluations.config import EvalConfig
from trainer.evaluations.endpoint import EndpointEngine

WORDS = ("YES", "NO")
TOP_LOGPROBS = 20
"""As many as OpenAI's API gives."""
MAX_TOKENS = 16
"""Enough for the answer's opening and its first word."""


class Verifier(Protocol):
    def score(self, messages: list[dict[str, str]]) -> float:
        """Thread-safe. Raises EngineUnavailable."""
        ...

    def close(self) -> None: ...


class EndpointVerifier:
    """A model behind an OpenAI-compatible server that tells log-probabilities."""

    def __init__(self, config: EvalConfig) -> None:
        self._engine = EndpointEngine(config)
        self._timeout_s = config.engine.request_timeout_s

    def score(self, messages: list[dict[str, str]]) -> float:
        body = {
            "model": self._engine.model,
            "messages": messages,
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
        }
        reply = self._engine.ask(body, self._timeout_s + 1)
        return score_of_reply(reply)

    def close(self) -> None:
        self._engine.close()


def score_of_reply(reply: dict[str, Any]) -> float:
    """From the first token of the answer that is YES or NO. Raises EngineUnavailable when there is none.

    A word that is not among the alternatives told is at most as likely as the least of them.
    """
    told = (reply["choices"][0].get("logprobs") or {}).get("content") or []
    for token in told:
        if token["token"].strip() in WORDS:
            found = {
                item["token"].strip(): item["logprob"] for item in [*token["top_logprobs"], token]
            }
            least = min(found.values())
            return share_of_yes(*(found.get(word, least) for word in WORDS))
    raise EngineUnavailable(f"no {' or '.join(WORDS)} with log-probabilities in the answer")


def share_of_yes(yes: float, no: float) -> float:
    """P(YES) / (P(YES) + P(NO)) from log-probabilities in nats, with no overflow."""
    return 1 / (1 + math.exp(min(no - yes, 700.0)))
