"""What the trainer relies on in both engines: token ids in and out, true log-probabilities, new weights that count.

The vLLM server is the real one, on the tiny model; it takes half a minute to start and is shared by the module.
"""

import fcntl
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.conftest import MakeConfig
from tests.trainer.shared_memory import orphaned_segments
from trainer.config import LoraConfig, TrainConfig
from trainer.engines.generate import (
    STOP,
    Completion,
    Engine,
    EngineUnavailable,
    GenerationTimeout,
    start_engine,
)
from trainer.engines.transformers_engine import TransformersEngine
from trainer.engines.vllm_engine import VllmEngine
from trainer.engines.weights import PREFIX, FileSync, remove_abandoned
from trainer.grpo.batch import Row
from trainer.grpo.trie import Branch
from trainer.model.lora import adapters
from trainer.model.policy import Policy, load_policy
from trainer.stop import RunStopped

TEMPERATURE = 0.7
PROMPTS = [[1, 500 + n, *range(1000, 1000 + 7 * n)] for n in range(6)]
needs_vllm = pytest.mark.skipif(
    not importlib.util.find_spec("vllm"), reason="vllm is not installed"
)


@pytest.fixture(
    scope="module",
    params=["transformers", pytest.param("vllm", marks=[pytest.mark.slow, needs_vllm])],
)
def config(request: pytest.FixtureRequest, run_config: MakeConfig) -> TrainConfig:
    return run_config(engine={"kind": request.param}, model={"dtype": "bfloat16"})


@pytest.fixture(scope="module")
def engine(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with closing(start_engine(config, tmp_path_factory.mktemp("engine"))) as started:
        yield started


@pytest.fixture
def policy(config: TrainConfig) -> Policy:
    return load_policy(config.model, temperature=TEMPERATURE)


def complete(
    engine: Engine, prompt_ids: list[int], seed: int = 0, max_tokens: int = 24
) -> Completion:
    return engine.complete(
        prompt_ids, max_tokens=max_tokens, temperature=TEMPERATURE, seed=seed, timeout_s=120
    )


def complete_all(engine: Engine) -> list[Completion]:
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        return list(pool.map(lambda prompt: complete(engine, prompt, seed=len(prompt)), PROMPTS))


@torch.no_grad()
def trainer_logprobs(policy: Policy, prompt_ids: list[int], token_ids: list[int]) -> torch.Tensor:
    """[T] of the sampled tokens, as the update computes them."""
    ids = torch.tensor(prompt_ids + token_ids)
    num_prompt, num_sampled = len(prompt_ids), len(token_ids)
    row = Row(
        input_ids=ids,
        position_ids=torch.arange(len(ids)),
        branches=(Branch(-1, len(ids)),),
        predictors=torch.arange(num_prompt - 1, len(ids) - 1),
        targets=ids[num_prompt:],
        advantages=torch.ones(num_sampled),
        weights=torch.ones(num_sampled),
        sampled_logprobs=torch.zeros(num_sampled),
    )
    return policy.scores(row).logprobs


def mean_difference(policy: Policy, completions: list[Completion]) -> float:
    differences = [
        trainer_logprobs(policy, prompt, c.token_ids) - torch.tensor(c.logprobs)
        for prompt, c in zip(PROMPTS, completions, strict=True)
    ]
    return float(torch.cat(differences).abs().mean())


def test_log_probabilities_are_the_trainers(engine: Engine, policy: Policy) -> None:
    completions = complete_all(engine)
    for c in completions:
        assert 1 <= len(c.token_ids) == len(c.logprobs) <= 24
        assert c.finish_reason == ("length" if len(c.token_ids) == 24 else "stop")
    assert mean_difference(policy, completions) < 0.02


def test_a_turn_in_flight_when_weights_arrive_is_of_the_version_that_it_says_or_newer(
    engine: Engine, policy: Policy, config: TrainConfig
) -> None:
    """vLLM goes on with the new weights, with nothing left of what the old ones computed; transformers ends it first."""
    untrained = load_policy(config.model, temperature=TEMPERATURE)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))
    before = engine.policy_version
    with (
        closing(FileSync(policy, engine, torch.bfloat16)) as sync,
        ThreadPoolExecutor(1) as pool,
    ):
        in_flight = pool.submit(complete, engine, PROMPTS[1], max_tokens=900)
        time.sleep(1.0)
        sync.push(7)
        turn = in_flight.result()
        assert (turn.policy_version, complete(engine, PROMPTS[0]).policy_version) == (before, 7)
    from_old, from_new = (
        (trainer_logprobs(p, PROMPTS[1], turn.token_ids) - torch.tensor(turn.logprobs)).abs()
        for p in (untrained, policy)
    )
    switched = [
        k
        for k in range(len(turn.token_ids) + 1)
        if from_old[:k].sum() + from_new[k:].sum() < 0.02 * len(turn.token_ids)
    ]
    assert switched, (from_old.mean(), from_new.mean())
    if isinstance(engine, VllmEngine):
        assert switched[0] < len(turn.token_ids)
    else:
        assert switched[-1] == len(turn.token_ids)


def test_an_adapter_reaches_the_engine_in_the_weights(
    engine: Engine, policy: Policy, config: TrainConfig
) -> None:
    adapted = load_policy(config.model, temperature=TEMPERATURE, lora=LoraConfig(rank=4))
    with torch.no_grad():
        for module in adapters(adapted.model).values():
            module.lora_B.normal_(std=0.1, generator=torch.Generator().manual_seed(5))
    with closing(FileSync(adapted, engine, torch.bfloat16)) as sync:
        sync.push(2)
        completions = complete_all(engine)
        assert mean_difference(adapted, completions) < 0.02
        assert mean_difference(policy, completions) > 0.1


def test_pushed_weights_answer_from_then_on(
    engine: Engine, policy: Policy, config: TrainConfig
) -> None:
    untrained = load_policy(config.model, temperature=TEMPERATURE)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    with closing(FileSync(policy, engine, torch.bfloat16)) as sync:
        sync.push(1)
        completions = complete_all(engine)
        assert engine.policy_version == 1
        assert mean_difference(policy, completions) < 0.02
        assert mean_difference(untrained, completions) > 0.1
        if isinstance(engine, VllmEngine):
            check_revival(engine, policy)


def check_revival(engine: VllmEngine, policy: Policy) -> None:
    """Killed in the middle of requests: they raise, and after `revive` the last weights answer."""
    before = orphaned_segments()

    def interrupted(prompt: list[int]) -> str:
        try:
            complete(engine, prompt, max_tokens=900)
        except EngineUnavailable as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        errors = [pool.submit(interrupted, prompt) for prompt in PROMPTS]
        time.sleep(0.5)
        guard = engine._process.pid
        (server,) = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[:1]
        os.kill(int(server), signal.SIGKILL)
        assert all(error.result() for error in errors)
    assert engine.revive()
    assert not engine.revive()
    assert mean_difference(policy, complete_all(engine)) < 0.02
    engine.close()
    assert orphaned_segments() <= before


def test_a_request_is_sampled_alike_alone_and_among_others(run_config: MakeConfig) -> None:
    with closing(TransformersEngine(run_config())) as engine:
        among = complete_all(engine)
        alone = [complete(engine, prompt, seed=len(prompt)) for prompt in PROMPTS]
        assert [c.token_ids for c in among] == [c.token_ids for c in alone]
        other = complete(engine, PROMPTS[0], seed=99)
        assert other.token_ids != alone[0].token_ids


def test_a_turn_ends_with_the_stop_string_and_keeps_it(run_config: MakeConfig) -> None:
    with closing(TransformersEngine(run_config())) as engine:
        stop_ids = engine._tokenizer.encode(STOP + "\n", add_special_tokens=False)
        steer(engine, stop_ids)
        completion = complete(engine, [1, 2, 3, 4])
        assert completion.finish_reason == "stop"
        assert completion.text.endswith(STOP)
        assert len(completion.token_ids) < 24


def steer(engine: TransformersEngine, wanted: list[int]) -> None:
    """Make the model say `wanted` over and over: each token is the likeliest after the one before it."""
    forward, said = engine._model.forward, iter(wanted * 100)

    def steered(**inputs: Any) -> Any:
        out = forward(**inputs)
        out.logits[:, -1, next(said)] += 1000.0
        return out

    engine._model.forward = steered


def test_a_deadline_ends_a_request_and_close_ends_the_others(run_config: MakeConfig) -> None:
    with closing(TransformersEngine(run_config())) as engine:
        with pytest.raises(GenerationTimeout, match=r"within the rollout's"):
            engine.complete([1, 2], max_tokens=1900, temperature=1.0, seed=0, timeout_s=0.05)
        threading.Timer(0.3, engine.close).start()
        with pytest.raises(EngineUnavailable, match="closed"):
            complete(engine, [1, 2], max_tokens=1900)
        with pytest.raises(EngineUnavailable, match="closed"):
            complete(engine, [1, 2])


def test_weights_that_are_not_there_name_the_version(
    run_config: MakeConfig, tmp_path: Path
) -> None:
    with (
        closing(TransformersEngine(run_config())) as engine,
        pytest.raises(EngineUnavailable, match="policy version 5"),
    ):
        engine.load_weights(tmp_path, 5)


@needs_vllm
def test_a_stop_is_noticed_while_vllm_starts(run_config: MakeConfig, tmp_path: Path) -> None:
    began = time.monotonic()
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    with pytest.raises(RunStopped):
        start_engine(run_config(engine={"kind": "vllm"}), tmp_path, stop.is_set)
    assert time.monotonic() - began < 8


def test_weights_of_a_dead_trainer_are_removed_and_those_of_a_living_one_kept(
    run_config: MakeConfig, tmp_path: Path
) -> None:
    abandoned = tmp_path / f"{PREFIX}abandoned" / "version_3"
    abandoned.mkdir(parents=True)
    config = run_config()
    policy = load_policy(config.model, temperature=1.0)
    with closing(TransformersEngine(config)) as engine:
        with closing(FileSync(policy, engine, torch.float32, owner="me", base=tmp_path)) as sync:
            sync.push(1)
            (living,) = tmp_path.iterdir()
            assert living.name.startswith(f"{PREFIX}me-")
            assert remove_abandoned(tmp_path) == []
            assert (living / "version_1" / "model.safetensors").is_file()
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_trainer_removes_before_it_is_locked_is_made_anew(
    run_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, []

    def removed_once(descriptor: int, operation: int) -> None:
        if not removed:
            (folder,) = tmp_path.iterdir()
            removed.append(folder)
            folder.rmdir()
        lock(descriptor, operation)

    config = run_config()
    policy = load_policy(config.model, temperature=1.0)
    with closing(TransformersEngine(config)) as engine:
        monkeypatch.setattr(fcntl, "flock", removed_once)
        with closing(FileSync(policy, engine, torch.float32, base=tmp_path)):
            assert removed
            assert remove_abandoned(tmp_path) == []
            assert len(list(tmp_path.iterdir())) == 1
