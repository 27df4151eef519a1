"""How likely a model says YES to "is the issue solved?": a score in (0, 1) for a rollout, without running anything.

score = P(YES) / (P(YES) + P(NO)) where the answer's first word stands, as in R2E-Gym's execution-free verifier. Two ways to
ask: a model in this process (exact, by teacher forcing), and an OpenAI-compatible endpoint (from its top 20 log-
probabilities). What a score belongs to is the caller's to keep: `trainer.verify` ties it to the rollout's id.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.endpoint import EndpointEngine
from trainer.evaluation_config import EvalConfig
from trainer.generate import EngineUnavailable
from trainer.policy import LOADING
from trainer.verifier_prompt import ANSWER

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


class LocalVerifier:
    """A model folder or Hugging Face id, on this machine."""

    def __init__(self, path: str, *, dtype: str = "float32") -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with LOADING:
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        self._model = model.to(device).eval()

    @torch.inference_mode()
    def score(self, messages: list[dict[str, str]]) -> float:
        prompt = encode_question(self._tokenizer, messages)
        words = encode_words(self._tokenizer)
        return float(torch.sigmoid(yes_over_no(self._model, prompt, words)))

    def close(self) -> None:
        """Nothing to end."""


def encode_question(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """Token ids up to where YES or NO is said."""
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer.encode(asked + ANSWER, add_special_tokens=False)
    return ids


def encode_words(tokenizer: Any) -> list[list[int]]:
    """Of YES and of NO."""
    return [tokenizer.encode(word, add_special_tokens=False) for word in WORDS]


def yes_over_no(model: Any, prompt: list[int], words: list[list[int]]) -> Tensor:
    """log P(YES) - log P(NO) after the prompt, a scalar; its sigmoid is the score. One pass where each word is one token."""
    if all(len(word) == 1 for word in words):
        ids = torch.tensor([prompt], device=model.device)
        logits = model(ids, logits_to_keep=1).logits[0, -1].float()
        return logits[words[0][0]] - logits[words[1][0]]
    yes, no = (_logprob(model, prompt, word) for word in words)
    return yes - no


def _logprob(model: Any, prompt: list[int], word: list[int]) -> Tensor:
    """Of the whole word after the prompt, in nats, a scalar."""
    ids = torch.tensor([prompt + word], device=model.device)
    logits = model(ids, logits_to_keep=len(word) + 1).logits[0, :-1].float()
    chosen = torch.tensor(word, device=model.device)[:, None]
    return torch.log_softmax(logits, -1).gather(-1, chosen).sum()


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
