"""Rollouts written down and played again: what was sampled in one run, given to another by where it stands in the run.

What weights answer makes no difference any more, and nothing of an engine's arithmetic is left in a comparison of two runs.
"""

import json
import threading
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from trainer.engines.generate import Completion, Engine


class RecordedEngine:
    """Asks `inner` for what is not in `path`, and writes it there; without one everything must be there.

    A completion is known by its seed, which is made from step, task, index in the group and turn.
    """

    def __init__(self, path: Path, inner: Engine | None = None) -> None:
        self._path, self._inner = path, inner
        self._lock = threading.Lock()
        self._known: dict[int, Completion] = {}
        self.policy_version = 0
        if path.exists():
            for line in path.read_text().splitlines():
                seed, fields = json.loads(line)
                self._known[seed] = Completion(**fields)

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
        if self._inner is None:
            return self._known[seed]
        completion = self._inner.complete(
            prompt_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            timeout_s=timeout_s,
            rollout=rollout,
        )
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps([seed, asdict(completion)]) + "\n")
        return completion

    def load_weights(self, folder: Path, policy_version: int) -> None:
        if self._inner is not None:
            self._inner.load_weights(folder, policy_version)
        self.policy_version = policy_version

    def revive(self) -> bool:
        return False

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
