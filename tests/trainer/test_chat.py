"""Text to token ids by a real chat template (SmolLM2's), each piece once."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sandbox.task import load_taskset
from trainer.config import ConfigError
from trainer.engines.chat import SENTINEL, Chat, load_prompt

REPLY = "<function=finish>\n</function>"


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


class Listening:
    """The tokenizer, and every text that it was asked to encode."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts: list[str] = []

    def encode(self, text: str, **options: Any) -> list[int]:
        self.texts.append(text)
        ids: list[int] = self._tokenizer.encode(text, **options)
        return ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_pieces_join_to_the_template_of_the_whole_conversation(tokenizer: Any) -> None:
    chat = Chat(tokenizer)
    messages = [{"role": "system", "content": "Fix."}, {"role": "user", "content": "It is broken."}]
    sampled = tokenizer.encode(REPLY, add_special_tokens=False)
    ids = chat.encode_prompt(messages) + sampled + chat.encode_observation("exit 1", sampled[-1])
    whole = [
        *messages,
        {"role": "assistant", "content": REPLY},
        {"role": "user", "content": "exit 1"},
    ]
    assert tokenizer.decode(ids) == chat.render_prompt(whole)


def test_an_end_of_turn_that_was_sampled_is_not_repeated(tokenizer: Any) -> None:
    chat = Chat(tokenizer)
    end = tokenizer.eos_token_id
    unsaid = chat.encode_observation("exit 1", tokenizer.encode("x")[0])
    said = chat.encode_observation("exit 1", end)
    assert unsaid[0] == end
    assert unsaid == [end, *said]
    assert said.count(end) == 1  # the observation's own


def test_sampled_text_is_never_encoded(tokenizer: Any) -> None:
    listening = Listening(tokenizer)
    chat = Chat(listening)
    chat.encode_prompt([{"role": "user", "content": "It is broken."}])
    chat.encode_observation("first look", 5)
    chat.encode_observation("second look", 5)
    assert len(listening.texts) == 3
    for piece in ("It is broken.", "first look", "second look"):
        assert sum(piece in text for text in listening.texts) == 1
    assert not any(SENTINEL in text for text in listening.texts)


def test_an_observation_that_holds_the_mark_is_kept_whole(tokenizer: Any) -> None:
    ids = Chat(tokenizer).encode_observation(f"before {SENTINEL} after", 5)
    assert "before" in tokenizer.decode(ids)


def test_the_prompt_is_the_files_with_the_problem_filled_in() -> None:
    task = load_taskset("starter").tasks[0]
    messages = load_prompt("r2e-gym").messages(task)
    assert [m["role"] for m in messages] == ["system", "user"]
    assert task.problem_statement.strip() in messages[1]["content"]
    for tool in ("file_editor", "execute_bash", "search", "finish"):
        assert f"<name>{tool}</name>" in messages[0]["content"]


def test_an_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match="rollout.prompt: 'nope': not found; one of r2e-gym, starter"
    ):
        load_prompt("nope")
