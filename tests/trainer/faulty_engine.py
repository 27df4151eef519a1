"""A stand-in for vLLM, for faults that the real one cannot be made to have when a test wants them.

    python -m tests.trainer.faulty_engine --port PORT --faults FOLDER

Serves the routes that the trainer uses. A completion follows from its context alone. The name of a file in FOLDER is the
fault to have next, once: `crash` and `memory` at a completion, `hang` from a completion on (the front end still says that it
is well), `nan` in a completion's log-probabilities, `torn` while weights are taken over (no answer).
"""

import argparse
import asyncio
import hashlib
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.recorded_engine import read_body, send_reply

NUM_TOKENS = 8
VOCABULARY = 40_000
FOR_EVER_S = 3600.0


class FaultyEngine:
    """An ASGI application."""

    def __init__(self, faults: Path) -> None:
        self._faults = faults
        self._hangs = False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = json.loads(await read_body(receive) or b"{}")
        answer: dict[str, Any] = {}
        if scope["path"] == "/v1/completions":
            answer = await self.complete(request)
        elif scope["path"] == "/collective_rpc" and self._due("torn"):
            await asyncio.sleep(FOR_EVER_S)
        await send_reply(send, answer)

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._due("crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._due("memory"):
            run_out_of_memory()
        if self._hangs or self._due("hang"):
            self._hangs = True
            await asyncio.sleep(FOR_EVER_S)
        token_ids = following(request["prompt"])
        logprobs: list[float | None] = [-1.0 - token % 7 for token in token_ids]
        if self._due("nan"):
            logprobs[0] = None  # as the real one says NaN in JSON
        choice = {
            "text": "no call",
            "token_ids": token_ids,
            "logprobs": {"token_logprobs": logprobs},
            "finish_reason": "length",
        }
        return {"choices": [choice]}

    def _due(self, fault: str) -> bool:
        try:
            (self._faults / fault).unlink()
        except FileNotFoundError:
            return False
        return True


def following(prompt: list[int]) -> list[int]:
    """Eight token ids that follow from the context alone."""
    digest = hashlib.sha256(json.dumps(prompt).encode()).digest()
    return [int.from_bytes(digest[4 * i : 4 * i + 4]) % VOCABULARY for i in range(NUM_TOKENS)]


def run_out_of_memory() -> None:
    """Ask for memory beyond a limit, and die of it as a worker does whose allocation is refused."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    try:
        bytearray(1 << 40)
    except MemoryError:
        os.abort()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--faults", type=Path, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        FaultyEngine(arguments.faults),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        lifespan="off",
        interface="asgi3",
    )
