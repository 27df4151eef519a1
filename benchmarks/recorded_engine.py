"""A stand-in for vLLM that samples nothing: over the same HTTP routes it answers after the seconds that a real run took.

    python -m benchmarks.recorded_engine --port PORT --record FILE --clock FACTOR

Each rollout that begins is given the next recorded one: as many turns, each answered after its recorded seconds times
FACTOR, the last with a call of `finish`. How many requests it holds makes no difference to it, as it does to an engine. It
tells for how long it held any (`/recorded/use`). What it says is never learnt from.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

LOOK = "<function=execute_bash>\n<parameter=cmd>ls</parameter>\n</function>"
FINISH = "<function=finish>\n</function>"
FIRST_ROLLOUT_ID = 1000
"""Token ids from here on say in a context which rollout it belongs to."""
NUM_ROLLOUT_IDS = 40_000


class RecordedTurn(NamedTuple):
    generate_s: float
    tool_s: float


def load_record(path: Path) -> list[list[RecordedTurn]]:
    """The turns of each recorded rollout."""
    rollouts = json.loads(path.read_text())["rollouts"]
    return [[RecordedTurn(*turn) for turn in turns] for turns in rollouts]


class RecordedEngine:
    """An ASGI application."""

    def __init__(self, record: list[list[RecordedTurn]], clock: float) -> None:
        self._record = itertools.cycle(record)
        self._clock = clock
        self._numbers = itertools.cycle(range(NUM_ROLLOUT_IDS))
        self._left: dict[int, deque[RecordedTurn]] = {}
        self._prompts: list[list[int]] = []
        self._running = 0
        self._most = 0
        self._answered = 0
        self._busy_s = 0.0
        self._busy_since = 0.0
        self._unpaused = asyncio.Event()
        self._unpaused.set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await read_body(receive)
        routes: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "/v1/completions": self.complete,
            "/pause": self.pause,
            "/resume": self.resume,
            "/recorded/use": self.use,
        }
        route = routes.get(scope["path"], self.agree)
        await send_reply(send, await route(json.loads(body or b"{}")))

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._running:
            self._busy_since = time.monotonic()
        self._running += 1
        self._most = max(self._most, self._running)
        try:
            return await self._sample(request["prompt"])
        finally:
            self._answered += 1
            self._running -= 1
            if not self._running:
                self._busy_s += time.monotonic() - self._busy_since

    async def pause(self, _: dict[str, Any]) -> dict[str, Any]:
        self._unpaused.clear()
        return {}

    async def resume(self, _: dict[str, Any]) -> dict[str, Any]:
        self._unpaused.set()
        return {}

    async def use(self, _: dict[str, Any]) -> dict[str, Any]:
        """Seconds for which it held at least one request, so far, the most that it held at once, and all that it answered."""
        since = time.monotonic() - self._busy_since if self._running else 0.0
        return {
            "busy_s": self._busy_s + since,
            "most": self._most,
            "answered": self._answered,
        }

    async def agree(self, _: dict[str, Any]) -> dict[str, Any]:
        return {}

    async def _sample(self, prompt: list[int]) -> dict[str, Any]:
        number = self._rollout_of(prompt)
        turn = self._left[number].popleft()
        await asyncio.sleep(turn.generate_s * self._clock)
        await self._unpaused.wait()
        text = LOOK if self._left[number] else FINISH
        token_ids = [FIRST_ROLLOUT_ID + number, *range(10, 10 + len(text) // 4)]
        logprobs = {"token_logprobs": [-0.5] * len(token_ids)}
        choice = {
            "text": text,
            "token_ids": token_ids,
            "logprobs": logprobs,
            "finish_reason": "stop",
        }
        return {"choices": [choice]}

    def _rollout_of(self, prompt: list[int]) -> int:
        """Which rollout goes on with this context: the first token after its prompt says so; a new one for a prompt alone."""
        for known in self._prompts:
            if len(prompt) > len(known) and prompt[: len(known)] == known:
                return prompt[len(known)] - FIRST_ROLLOUT_ID
        if prompt not in self._prompts:
            self._prompts.append(prompt)
        number = next(self._numbers)
        self._left[number] = deque(next(self._record))
        return number


async def read_body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def send_reply(send: Any, answer: dict[str, Any], status: int = 200) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def serve(engine: RecordedEngine, port: int) -> None:
    uvicorn.run(
        engine, host="127.0.0.1", port=port, log_level="warning", lifespan="off", interface="asgi3"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--clock", type=float, required=True)
    arguments = parser.parse_args()
    serve(RecordedEngine(load_record(arguments.record), arguments.clock), arguments.port)
