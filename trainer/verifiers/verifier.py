"""How likely a model says YES to "is the issue solved?": a score in (0, 1) for a rollout, without running anything.

score = P(YES) / (P(YES) + P(NO)) where the answer's first word stands, as in R2E-Gym's execution-free verifier. Two ways to
ask: a model in this process (exact, by teacher forcing), and an OpenAI-compatible endpoint (from its top 20 log-
probabilities); the first is `trainer.verifiers.local`'s. What a score belongs to is the caller's to keep: `trainer.verify` ties
it to the rollout's id.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel, FiniteFloat, ValidationError

from trainer.engines.generate import EngineUnavailable
from trainer.evaluations.config import EvalConfig
from trainer.evaluations.endpoint import MAX_TOLD, EndpointEngine, Text, choice_of

WORDS = ("YES", "NO")
TOP_LOGPROBS = 20
"""As many as OpenAI's API gives."""
MAX_TOKENS = 16
"""Enough for the answer's opening and its first word."""


class Alternative(BaseModel):
    """A token that could stand in a place, and its log-probability in nats."""

    token: Text
    logprob: FiniteFloat

    @property
    def word(self) -> str:
        """Without blanks around it: a word is several tokens of a vocabulary."""
        return self.token.strip()


class Sampled(Alternative):
    """The token that stands there."""

    top_logprobs: list[Alternative] = []

    @property
    def alternatives(self) -> list[Alternative]:
        """The likeliest, and this one, which is most often among them."""
        told = [item.token for item in self.top_logprobs]
        return self.top_logprobs if self.token in told else [*self.top_logprobs, self]


class Logprobs(BaseModel):
    content: list[Sampled] | None = None


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

    A word is as likely as all its tokens together; one that is not among the alternatives told, at most as the least of them.
    """
    for token in _logprobs_of(reply).content or []:
        if token.word in WORDS:
            least = min(item.logprob for item in token.alternatives)
            told = (
                [item.logprob for item in token.alternatives if item.word == word] for word in WORDS
            )
            return share_of_yes(*(log_of_sum(logprobs or [least]) for logprobs in told))
    raise EngineUnavailable(f"no {' or '.join(WORDS)} with log-probabilities in the answer")


def _logprobs_of(reply: dict[str, Any]) -> Logprobs:
    told = choice_of(reply).logprobs
    try:
        return Logprobs.model_validate(told or {})
    except ValidationError as error:
        message = f"the answer's log-probabilities are not readable: {str(told)[:MAX_TOLD]}"
        raise EngineUnavailable(message) from error


def log_of_sum(logprobs: Sequence[float]) -> float:
    """The logarithm of the sum of these probabilities."""
    most = max(logprobs)
    return most + math.log(sum(math.exp(logprob - most) for logprob in logprobs))


def share_of_yes(yes: float, no: float) -> float:
    """P(YES) / (P(YES) + P(NO)) from log-probabilities in nats, with no overflow."""
    return 1 / (1 + math.exp(min(no - yes, 700.0)))
