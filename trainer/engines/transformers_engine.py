"""Generation in this process with transformers, for machines where no vLLM can be installed.

One worker thread takes the requests that wait, generates them as one left-padded batch with a key-value cache, and takes
the next ones when the last of the batch has ended. Rather simple and right than fast: about a tenth of vLLM's throughput.
A request is sampled by its own generator, so what it gets does not depend on its neighbours' seeds.
"""

import logging
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.config import TrainConfig
from trainer.engines.generate import STOP, Completion, EngineUnavailable, GenerationTimeout
from trainer.model.policy import LOADING
from trainer.model.precision import compute_dtype

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


@dataclass(kw_only=True)
class _Request:
    prompt_ids: list[int]
    max_tokens: int
    temperature: float
    generator: torch.Generator
    reply: "Future[Completion]"
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class TransformersEngine:
    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.policy_version = 0
        self._device = torch.device("cuda" if config.hardware.gpus_per_node else "cpu")
        dtype = compute_dtype(config.model)
        with LOADING:
            model: Any = AutoModelForCausalLM.from_pretrained(config.model.path, dtype=dtype)
        self._model = model.to(self._device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(config.model.path)
        self._end_ids = _end_ids(self._model, self._tokenizer)
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._weights_lock = threading.Lock()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="generate", daemon=True)
        self._worker.start()

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
        request = _Request(
            prompt_ids=prompt_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            generator=torch.Generator().manual_seed(seed),
            reply=Future(),
        )
        self._waiting.put(request)
        if self._closing.is_set():
            raise EngineUnavailable("the engine is closed")
        limit = self.config.engine.request_timeout_s
        try:
            return request.reply.result(max(0.0, min(timeout_s, limit)))
        except TimeoutError as error:
            request.reply.cancel()
            if timeout_s <= limit:
                raise GenerationTimeout(
                    f"no completion within the rollout's {timeout_s:.0f} s"
                ) from error
            raise EngineUnavailable(
                f"no completion within engine.request_timeout_s={limit:.0f}"
            ) from error
        except CancelledError as error:
            raise EngineUnavailable("the engine was closed during the request") from error

    def load_weights(self, folder: Path, policy_version: int) -> None:
        try:
            state = load_file(folder / "model.safetensors")
            with self._weights_lock:
                tied = self._model.config.tie_word_embeddings
                self._model.load_state_dict(state, strict=not tied)
                self.policy_version = policy_version
        except (OSError, RuntimeError) as error:
            raise EngineUnavailable(
                f"policy version {policy_version} did not reach the engine: {error}"
            ) from error

    def revive(self) -> bool:
        """It lives as long as this process."""
        return False

    def close(self) -> None:
        self._closing.set()
        self._waiting.put(None)
        self._worker.join(CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        while not self._closing.is_set():
            batch = list(self._next_batch())
            try:
                with self._weights_lock, torch.inference_mode():
                    self._generate(batch)
            except Exception as error:
                log.exception("a batch of %d requests failed", len(batch))
                for request in batch:
                    _fail(request, EngineUnavailable(f"generation failed: {error!r}"))
        while not self._waiting.empty():
            if (unanswered := self._waiting.get()) is not None:
                unanswered.reply.cancel()

    def _next_batch(self) -> Iterator[_Request]:
        """What waits now, at most `rollout.concurrency`; blocks for the first. Ends at the None of `close`."""
        for index in range(self.config.rollout.concurrency):
            if index and self._waiting.empty():
                return
            request = self._waiting.get()
            if request is None:
                return
            yield request

    def _generate(self, batch: list[_Request]) -> None:
        """Token by token until every request of the batch has its reply; ended ones leave the batch."""
        live = batch
        input_ids, mask = _left_padded([r.prompt_ids for r in live], self._device)
        cache = None
        while live:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
            out = self._model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            for request, logits in zip(live, out.logits[:, -1].float().cpu(), strict=True):
                _sample(request, logits)
            keep = [i for i, request in enumerate(live) if not self._ended(request)]
            live = [live[i] for i in keep]
            if live and len(keep) < len(mask):
                cache.batch_select_indices(torch.tensor(keep, device=self._device))
            mask = torch.nn.functional.pad(mask[keep], (0, 1), value=1)
            input_ids = torch.tensor([[r.token_ids[-1]] for r in live], device=self._device)

    def _ended(self, request: _Request) -> bool:
        """Whether the request needs no further token; if so its reply is set."""
        if self._closing.is_set():
            request.reply.cancel()
        if request.reply.cancelled():
            return True
        last = request.token_ids[-1]
        # every token of the stop string holds one of its characters at least
        tail = self._tokenizer.decode(request.token_ids[-len(STOP) :])
        stopped = last in self._end_ids or STOP in tail
        if not stopped and len(request.token_ids) < request.max_tokens:
            return False
        text = str(self._tokenizer.decode(request.token_ids, skip_special_tokens=True))
        before, stop, _ = text.partition(STOP)
        completion = Completion(
            text=before + stop,
            token_ids=request.token_ids,
            logprobs=request.logprobs,
            policy_version=self.policy_version,
            finish_reason="stop" if stopped else "length",
        )
        if request.reply.set_running_or_notify_cancel():
            request.reply.set_result(completion)
        return True


def _end_ids(model: torch.nn.Module, tokenizer: object) -> set[int]:
    """Ids that end a turn, from the tokenizer and the model's generation configuration."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return {i for i in [*ids, getattr(tokenizer, "eos_token_id", None)] if i is not None}


def _left_padded(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both [B, longest] int64."""
    longest = max((len(p) for p in prompts), default=0)
    ids = [[0] * (longest - len(p)) + p for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _sample(request: _Request, logits: Tensor) -> None:
    """Draw one token from logits [V] at the request's temperature, with its log-probability."""
    logprobs = torch.log_softmax(logits / request.temperature, -1)
    token = int(torch.multinomial(logprobs.exp(), 1, generator=request.generator))
    request.token_ids.append(token)
    request.logprobs.append(float(logprobs[token]))


def _fail(request: _Request, error: EngineUnavailable) -> None:
    if not request.reply.done() and request.reply.set_running_or_notify_cancel():
        request.reply.set_exception(error)
