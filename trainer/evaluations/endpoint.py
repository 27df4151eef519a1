"""Any OpenAI-compatible server as an engine: messages out, text in, by its chat completions.

The agent loop counts and keeps tokens, and such a server tells none. So text travels through the loop as tokens of our own:
up to four bytes of UTF-8 each, about what a tokenizer makes of text, and exactly readable again. Lengths and limits are
therefore estimates, and log-probabilities are not known (NaN); nothing can be trained on such a rollout.
"""

import logging
import math
import threading
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    wait_random_exponential,
)

from trainer.engines.chat import Chat
from trainer.engines.generate import (
    STOP,
    Completion,
    ContextFull,
    EngineUnavailable,
    GenerationTimeout,
)
from trainer.evaluations.config import EvalConfig

log = logging.getLogger(__name__)

CLOSE_EVERY_S = 0.5
"""How soon a request notices that the engine is closed."""
TOKEN_BYTES = 4
_PAD = b"\xff"
"""Never part of UTF-8."""
ROLES = {"system": -1, "user": -2, "assistant": -3}
"""The token that opens a message: bytes 0xFF.., which no text begins with."""
_ROLE_OF = {token: role for role, token in ROLES.items()}
_NOTHING = -4
"""Stands for an empty reply, since a turn has a token at least."""
_BUSY = (408, 409, 429)
_FULL = ("context length", "context_length", "maximum context", "max_model_len", "too long")
"""How servers say that a prompt does not fit."""
MAX_TOLD = 300
"""Characters of an answer that a message repeats."""


def _as_utf8(value: Any) -> Any:
    """Half of a surrogate pair, which JSON can say and UTF-8 cannot, becomes a question mark."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_as_utf8)]


class Message(BaseModel):
    content: Text | None = None


class Choice(BaseModel):
    """As much of an answer as is read."""

    message: Message
    finish_reason: Text | None = None
    logprobs: Any = None


class Reply(BaseModel):
    choices: list[Choice] = Field(min_length=1)


class TextChat(Chat):
    """Messages as tokens of four bytes, with no tokenizer."""

    def __init__(self) -> None:
        super().__init__(tokenizer=None)

    def encode_prompt(self, messages: list[dict[str, str]]) -> list[int]:
        encoded = [[ROLES[m["role"]], *encode(m["content"])] for m in messages]
        return [token for message in encoded for token in message] + [ROLES["assistant"]]

    def render_prompt(self, messages: list[dict[str, str]]) -> str:
        return "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in messages)

    def encode_observation(self, observation: str, last_sampled_id: int) -> list[int]:
        return [ROLES["user"], *encode(observation), ROLES["assistant"]]


def encode(text: str) -> list[int]:
    """Tokens that fit 32 signed bits."""
    data = text.encode(errors="replace")
    pieces = (data[i : i + TOKEN_BYTES] for i in range(0, len(data), TOKEN_BYTES))
    return [int.from_bytes(piece.ljust(TOKEN_BYTES, _PAD), signed=True) for piece in pieces]


def decode(tokens: list[int]) -> str:
    words = (token.to_bytes(TOKEN_BYTES, signed=True) for token in tokens if token != _NOTHING)
    data = b"".join(words)
    return data.replace(_PAD, b"").decode()


def messages_of(tokens: list[int]) -> list[dict[str, str]]:
    """The messages that `TextChat` encoded, without the empty one that is to be answered."""
    starts = [i for i, token in enumerate(tokens) if token in _ROLE_OF]
    ends = [*starts[1:], len(tokens)]
    return [
        {"role": _ROLE_OF[tokens[start]], "content": decode(tokens[start + 1 : end])}
        for start, end in zip(starts, ends, strict=True)
    ][:-1]


class _Busy(RuntimeError):
    """The server asks to be asked again."""


class EndpointEngine:
    """Chat completions of one server. Its weights are its own: there is nothing to load or to revive."""

    def __init__(self, config: EvalConfig) -> None:
        self.policy_version = 0
        self.model = config.model.path
        self._request_timeout_s = config.engine.request_timeout_s
        self._closing = threading.Event()
        headers = {}
        if config.model.api_key_file:
            key = Path(config.model.api_key_file).read_text().strip()
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            base_url=config.model.endpoint.rstrip("/") + "/",
            headers=headers,
            limits=httpx.Limits(max_connections=config.rollout.concurrency + 8, keepalive_expiry=2),
        )

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
        """See `Engine`. A busy or absent server is asked again until the time is up."""
        body = {
            "model": self.model,
            "messages": messages_of(prompt_ids),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "seed": seed,
            "stop": [STOP],
        }
        return _completion(self.ask(body, timeout_s))

    def ask(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a chat completion. Raises EngineUnavailable, GenerationTimeout, ContextFull."""
        patience_s = min(timeout_s, self._request_timeout_s)
        deadline = time.monotonic() + patience_s
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type((_Busy, httpx.TransportError)),
                wait=wait_random_exponential(multiplier=0.5, max=20),
                stop=stop_after_delay(max(patience_s - 1, 0)),
                sleep=sleep_using_event(self._closing),
                reraise=True,
            ):
                with attempt:
                    return self._ask(body, deadline - time.monotonic())
        except httpx.ReadTimeout as error:
            if timeout_s <= self._request_timeout_s:
                message = f"no completion within the rollout's {timeout_s:.0f} s"
                raise GenerationTimeout(message) from error
            raise EngineUnavailable(
                f"no completion within engine.request_timeout_s={self._request_timeout_s:.0f}"
            ) from error
        except (_Busy, httpx.HTTPError) as error:
            raise EngineUnavailable(f"the endpoint did not answer: {error!r}") from error
        raise EngineUnavailable("the endpoint was not asked")

    def load_weights(self, folder: Path, policy_version: int) -> None:
        raise EngineUnavailable(f"an endpoint's weights are its own, not {folder}")

    def revive(self) -> bool:
        return False

    def close(self) -> None:
        self._closing.set()
        self._http.close()

    def _ask(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        answer = self._post(body, max(timeout_s, 0.01))
        if answer.is_success:
            return _json_of(answer)
        said = f"status {answer.status_code}: {answer.text[:MAX_TOLD]}"
        if answer.status_code in _BUSY or answer.status_code >= 500:
            raise _Busy(said)
        if answer.status_code in (400, 413) and any(word in answer.text for word in _FULL):
            raise ContextFull(said)
        raise EngineUnavailable(f"the endpoint refuses: {said}")

    def _post(self, body: dict[str, Any], timeout_s: float) -> httpx.Response:
        """In a thread that is left behind when the engine is closed: a blocked read cannot be woken."""
        answer: Future[httpx.Response] = Future()

        def post() -> None:
            try:
                answer.set_result(self._http.post("chat/completions", json=body, timeout=timeout_s))
            except Exception as error:
                answer.set_exception(error)

        threading.Thread(target=post, name="endpoint", daemon=True).start()
        while not self._closing.is_set():
            if wait_for([answer], timeout=CLOSE_EVERY_S).done:
                return answer.result()
        raise EngineUnavailable("the endpoint is closed")


def _json_of(answer: httpx.Response) -> dict[str, Any]:
    """Raises EngineUnavailable."""
    try:
        found: dict[str, Any] = answer.json()
    except ValueError as error:
        message = f"the endpoint's answer is no JSON: {answer.text[:MAX_TOLD]}"
        raise EngineUnavailable(message) from error
    return found


def choice_of(reply: dict[str, Any]) -> Choice:
    """The first of the answer. Raises EngineUnavailable when there is none."""
    try:
        return Reply.model_validate(reply).choices[0]
    except ValidationError as error:
        message = f"the endpoint's answer is no chat completion: {str(reply)[:MAX_TOLD]}"
        raise EngineUnavailable(message) from error


def _completion(reply: dict[str, Any]) -> Completion:
    """Raises EngineUnavailable."""
    choice = choice_of(reply)
    text = choice.message.content or ""
    stopped = choice.finish_reason == "stop"
    if stopped and "<function=" in text and not text.rstrip().endswith(STOP):
        text += STOP  # which servers leave out
    token_ids = encode(text) or [_NOTHING]
    return Completion(
        text=text,
        token_ids=token_ids,
        logprobs=[math.nan] * len(token_ids),
        policy_version=0,
        finish_reason="stop" if stopped else "length",
    )
