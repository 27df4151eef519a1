"""Messages -> token ids by the model's own chat template, each piece encoded once.

The prompt is one encoding; what stands between two sampled turns (end of the assistant's turn, the observation as a
user's message, the header of the next turn) is encoded by itself, so sampled ids are never encoded again.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.task import Task
from trainer.config import ConfigError

PROMPTS = Path(__file__).parent.parent / "prompts"
SENTINEL = "\x02observed-turn\x03"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt file: TOML with `system`, `instance` ({problem_statement} is filled in) and [[examples]]."""

    system: str
    instance: str
    examples: tuple[dict[str, str], ...] = ()
    """Messages {role, content} between the system message and the task: whole worked trajectories."""

    def messages(self, task: Task) -> list[dict[str, str]]:
        instance = self.instance.replace("{problem_statement}", task.problem_statement.strip())
        return [
            {"role": "system", "content": self.system.strip()},
            *self.examples,
            {"role": "user", "content": instance.strip()},
        ]


def load_prompt(name: str) -> Prompt:
    """The prompt file `name`. Raises ConfigError naming those there are."""
    path = PROMPTS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROMPTS.glob("*.toml")))
        raise ConfigError([("rollout.prompt", f"{name!r}: not found; one of {known}")])
    data = tomllib.loads(path.read_text())
    examples = tuple(
        {"role": m["role"], "content": m["content"].strip()} for m in data.get("examples", ())
    )
    return Prompt(system=data["system"], instance=data["instance"], examples=examples)


class Chat:
    """Encodes a rollout's text with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode_prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """Token ids up to where the assistant's first turn begins."""
        text = self.render_prompt(messages)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def render_prompt(self, messages: list[dict[str, str]]) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        return text

    def encode_observation(self, observation: str, last_sampled_id: int) -> list[int]:
        """Token ids between a sampled turn and the next. An end-of-turn token that was sampled is not repeated."""
        messages = [
            {"role": "user", "content": ""},
            {"role": "assistant", "content": SENTINEL},
            {"role": "user", "content": observation},
        ]
        rendered = self.render_prompt(messages)
        # the first one: what was observed may hold the mark as well
        between = rendered.partition(SENTINEL)[2]
        ids: list[int] = self.tokenizer.encode(between, add_special_tokens=False)
        return ids[1:] if ids and ids[0] == last_sampled_id else ids
