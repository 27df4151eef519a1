"""A scripted server that also judges: what it says of a patch depends on whether that is the gold one."""

import json
import math
import random
import time
from typing import Any

from tests.trainer.scripted_endpoint import ScriptedEndpoint


def reply(word: str, yes: float, no: float) -> dict[str, Any]:
    """As an OpenAI-compatible server tells it."""
    told = [{"token": "<judgement>", "logprob": 0.0, "top_logprobs": []}]
    alternatives = [{"token": "YES", "logprob": yes}, {"token": " NO", "logprob": no}]
    told.append(alternatives[word == "NO"] | {"top_logprobs": alternatives})
    message = {"role": "assistant", "content": f"<judgement>{word}"}
    return {"choices": [{"message": message, "logprobs": {"content": told}}]}


class JudgingEndpoint(ScriptedEndpoint):
    """Knows the solutions: P(YES) is 0.9 for a gold patch and less for others, told late and in no order."""

    def reply(self, request: dict[str, Any]) -> tuple[int, str]:
        if "logprobs" not in request:
            return super().reply(request)
        self.requests.append(request)
        time.sleep(random.random() * 0.2)
        asked = request["messages"][-1]["content"]
        solved = any(
            t.gold_patch.strip().splitlines()[-1] in asked.partition("[PATCH]")[2]
            for t in self.tasks
        )
        share = 0.9 if solved else 0.2
        return 200, json.dumps(reply("YES", math.log(share), math.log(1 - share)))


class BreakingProxy(JudgingEndpoint):
    """Stands in for a proxy before the server: gives `faults` first, whatever it is asked."""

    def reply(self, request: dict[str, Any]) -> tuple[int, str]:
        return self.faults.pop(0) if self.faults else super().reply(request)
