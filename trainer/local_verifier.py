"""A verifier in this process: P(YES) against P(NO) by teacher forcing, exactly, without sampling.

The same log-odds are what `trainer.train_verifier` learns.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.policy import LOADING
from trainer.verifier import WORDS
from trainer.verifier_prompt import ANSWER


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
