"""An OpenAI-compatible endpoint as an engine, against a real HTTP server."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.task import Task, load_taskset
from tests.trainer.scripted_endpoint import ScriptedEndpoint
from trainer.engines.generate import Completion, ContextFull, EngineUnavailable, GenerationTimeout
from trainer.evaluations.config import parse_evaluation
from trainer.evaluations.endpoint import EndpointEngine, TextChat, decode, encode, messages_of

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}]


@pytest.fixture(scope="module")
def task() -> Task:
    return load_taskset("starter").tasks[0]


@pytest.fixture
def endpoint(task: Task) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint([task], solves=lambda *_: False) as started:
        yield started


def engine_of(endpoint: ScriptedEndpoint, **engine: Any) -> EndpointEngine:
    data = {"model": {"path": "their-model", "endpoint": endpoint.url}, "engine": engine}
    data["engine"].setdefault("max_model_len", 40000)
    return EndpointEngine(parse_evaluation(data))


def ask(engine: EndpointEngine, task: Task, *, timeout_s: float = 20) -> Completion:
    messages = [{"role": "user", "content": task.problem_statement}]
    prompt_ids = TextChat().encode_prompt(messages)
    return engine.complete(prompt_ids, max_tokens=50, temperature=0.5, seed=3, timeout_s=timeout_s)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_as_it_was(text: str) -> None:
    tokens = encode(text)
    assert decode(tokens) == text
    assert len(tokens) == -(-len(text.encode()) // 4)
    assert all(-(2**31) <= token < 2**31 for token in tokens)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1))
def test_messages_come_back_as_they_were(pairs: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": content} for role, content in pairs]
    assert messages_of(TextChat().encode_prompt(messages)) == messages


def test_a_turn_and_its_observation_are_messages_of_their_own() -> None:
    chat = TextChat()
    tokens = chat.encode_prompt(MESSAGES) + encode("I look.") + chat.encode_observation("a.py", 0)
    assert messages_of(tokens)[2:] == [
        {"role": "assistant", "content": "I look."},
        {"role": "user", "content": "a.py"},
    ]


def test_a_reply_has_the_stop_string_back_and_the_request_says_all(
    endpoint: ScriptedEndpoint, task: Task
) -> None:
    with closing(engine_of(endpoint)) as engine:
        completion = ask(engine, task)
    assert completion.text == "<function=finish>\n</function>"
    assert decode(completion.token_ids) == completion.text
    (request,) = endpoint.requests
    assert request["model"] == "their-model"
    assert (request["temperature"], request["seed"], request["max_tokens"]) == (0.5, 3, 50)
    assert request["key"] is None


def test_the_key_is_read_from_its_file(
    endpoint: ScriptedEndpoint, task: Task, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("open-sesame\n")
    model = {"path": "m", "endpoint": endpoint.url, "api_key_file": str(tmp_path / "key")}
    config = parse_evaluation({"model": model, "engine": {"max_model_len": 40000}})
    with closing(EndpointEngine(config)) as engine:
        ask(engine, task)
    assert endpoint.requests[0]["key"] == "Bearer open-sesame"


def test_a_busy_server_is_asked_again(endpoint: ScriptedEndpoint, task: Task) -> None:
    endpoint.faults = [(429, "slow down"), (503, "starting")]
    with closing(engine_of(endpoint)) as engine:
        assert ask(engine, task).finish_reason == "stop"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ((400, "This model's maximum context length is 100 tokens"), ContextFull),
        ((404, "no such model"), EngineUnavailable),
    ],
)
def test_a_refusal_is_told_at_once(
    endpoint: ScriptedEndpoint, task: Task, fault: tuple[int, str], error: type[Exception]
) -> None:
    endpoint.faults = [fault]
    with closing(engine_of(endpoint)) as engine, pytest.raises(error, match=fault[1]):
        ask(engine, task)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "said",
    [
        '{"error": {"message": "no route to the model"}}',
        "<html>Bad gateway</html>",
        '{"choices": []}',
        '{"choices": [{"text": "of another API"}]}',
        '["choices"]',
    ],
)
def test_an_answer_that_is_no_completion_is_told_as_it_came(
    endpoint: ScriptedEndpoint, task: Task, said: str
) -> None:
    endpoint.faults = [(200, said)]
    with closing(engine_of(endpoint)) as engine, pytest.raises(EngineUnavailable) as told:
        ask(engine, task)
    assert re.findall(r"\w+", said)[0] in str(told.value)


def test_half_a_surrogate_pair_becomes_text_that_can_be_written(
    endpoint: ScriptedEndpoint, task: Task
) -> None:
    endpoint.faults = [
        (200, r'{"choices": [{"message": {"content": "so \ud83d \ud83d\ude00"}}]}'),
    ]
    with closing(engine_of(endpoint)) as engine:
        completion = ask(engine, task)
    assert completion.text == decode(completion.token_ids) == "so ? \N{GRINNING FACE}"


def test_slow_sampling_is_the_rollouts_own_and_a_dead_server_is_not(
    endpoint: ScriptedEndpoint, task: Task
) -> None:
    endpoint.answering.clear()
    with closing(engine_of(endpoint)) as engine, pytest.raises(GenerationTimeout):
        ask(engine, task, timeout_s=0.2)
    with (
        closing(engine_of(endpoint, request_timeout_s=0.2)) as engine,
        pytest.raises(EngineUnavailable),
    ):
        ask(engine, task)
    endpoint.__exit__()
    with closing(engine_of(endpoint)) as engine, pytest.raises(EngineUnavailable):
        ask(engine, task, timeout_s=1.5)


def test_closing_wakes_a_request_that_waits(endpoint: ScriptedEndpoint, task: Task) -> None:
    endpoint.answering.clear()
    engine = engine_of(endpoint)
    threading.Timer(0.3, engine.close).start()
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match="closed"):
        ask(engine, task)
    assert time.monotonic() - began < 10
