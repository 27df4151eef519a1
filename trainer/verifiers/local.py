"""A verifier in this process: P(YES) against P(NO) by teacher forcing, exactly, without sampling.

The same log-odds are what `trainer.train_verifier` learns.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.model.policy import LOADING
from trainer.verifiers.prompt import ANSWER
from trainer.verifiers.verifier import WORDS


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
    """log P(YES) - log P(NO) after the prompt, a scalar; its sigmoid is the score. One pass where a word is one token."""
    lengths = [len(word) for word in words]
    if min(lengths) > 1:
        yes, no = (_logprobs(model, prompt, word)[0] for word in words)
        return yes - no
    longer = lengths.index(max(lengths))
    of_longer, at_first = _logprobs(model, prompt, words[longer])
    of_other = at_first[words[1 - longer][0]]
    return of_longer - of_other if longer == 0 else of_other - of_longer


def _logprobs(model: Any, prompt: list[int], word: list[int]) -> tuple[Tensor, Tensor]:
    """Of the whole word after the prompt, in nats, a scalar; and of every token [V] in the place of its first."""
    ids = torch.tensor([prompt + word[:-1]], device=model.device)
    logits = model(ids, logits_to_keep=len(word)).logits[0].float()
    logprobs = torch.log_softmax(logits, -1)
    chosen = torch.tensor(word, device=model.device)[:, None]
    return logprobs.gather(-1, chosen).sum(), logprobs[0]
