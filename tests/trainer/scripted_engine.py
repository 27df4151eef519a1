"""An engine that says what a test tells it to, with the log-probabilities that a real model gives it.

Each rollout takes the next script: its replies turn by turn. A reply is text (encoded as a model would have sampled it), or
a function of no arguments that returns the text or raises what an engine raises.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.engines.generate import STOP, Completion, EngineUnavailable

Reply = str | Callable[[], str]
Script = Sequence[Reply]


class ScriptedEngine:
    def __init__(self, model_folder: Path, scripts: Sequence[Script] = ()) -> None:
        self.policy_version = 0
        self.scripts = list(scripts)
        self.closed = False
        self.temperatures: set[float] = set()
        self.seeds: list[int] = []
        self._lock = threading.Lock()
        self._going_on: dict[int, Script] = {}
        self._tokenizer = AutoTokenizer.from_pretrained(model_folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        self._model.eval()

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
        if self.closed:
            raise EngineUnavailable("the engine is closed")
        with self._lock:
            policy_version = self.policy_version
            self.seeds.append(seed)
            script = self._going_on.pop(seed, None) or self.scripts.pop(0)
            self._going_on[seed + 1] = script[1:]
        reply = script[0]
        text = reply if isinstance(reply, str) else reply()
        token_ids = self._tokenizer.encode(text, add_special_tokens=False)[:max_tokens]
        with self._lock:
            self.temperatures.add(temperature)
            logprobs = self.logprobs(prompt_ids, token_ids, temperature)
        return Completion(
            text=self._tokenizer.decode(token_ids),
            token_ids=token_ids,
            logprobs=logprobs,
            policy_version=policy_version,
            finish_reason="stop"
            if text.endswith(STOP) and len(token_ids) < max_tokens
            else "length",
        )

    @torch.inference_mode()
    def logprobs(
        self, prompt_ids: list[int], token_ids: list[int], temperature: float
    ) -> list[float]:
        """Of each of `token_ids` after `prompt_ids`, in nats."""
        ids = torch.tensor([prompt_ids + token_ids])
        logits = self._model(ids, logits_to_keep=len(token_ids) + 1).logits[0, :-1] / temperature
        chosen = torch.log_softmax(logits, -1).gather(-1, torch.tensor(token_ids)[:, None])
        return chosen[:, 0].tolist()

    def load_weights(self, folder: Path, policy_version: int) -> None:
        self._model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        self.policy_version = policy_version

    def revive(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
