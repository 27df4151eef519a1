"""Replicas of the engine: rollouts keep theirs, new ones go where there is room, and a dead one troubles no other."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch

from tests.trainer.conftest import MakeConfig
from trainer.config import ConfigError
from trainer.engines.generate import Completion, EngineUnavailable
from trainer.engines.pool import EnginePool, start_all
from trainer.engines.transformers_engine import TransformersEngine
from trainer.engines.weights import FileSync
from trainer.model.policy import load_policy
from trainer.nodes.gpus import engine_gpus, visible
from trainer.recipes import load_recipe


class MortalEngine:
    """A stand-in that names itself in what it says, dies when told to, and comes back when let."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.policy_version = 0
        self.dead = False
        self.lost: EngineUnavailable | None = None
        self.may_return = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.closed = False

    def complete(self, prompt_ids: list[int], **_: Any) -> Completion:
        self.may_answer.wait(10)
        if self.dead:
            raise EngineUnavailable("dead")
        return Completion(
            text="",
            token_ids=[self.name],
            logprobs=[0.0],
            policy_version=self.policy_version,
            finish_reason="stop",
        )

    def load_weights(self, folder: Path, policy_version: int) -> None:
        self.policy_version = policy_version

    def revive(self) -> bool:
        if not self.dead:
            return False
        self.may_return.wait(10)
        if self.lost:
            raise self.lost
        self.dead = False
        return True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engines() -> list[MortalEngine]:
    return [MortalEngine(0), MortalEngine(1)]


@pytest.fixture
def pool(engines: list[MortalEngine]) -> Iterator[EnginePool]:
    with closing(EnginePool(engines)) as pool:
        yield pool


def who_answers(pool: EnginePool, rollout: Any) -> int:
    (name,) = pool.complete(
        [1], max_tokens=1, temperature=1.0, seed=0, timeout_s=5, rollout=rollout
    ).token_ids
    return name


def test_a_rollout_stays_where_it_began_and_beginnings_take_turns(pool: EnginePool) -> None:
    rollouts = [uuid4() for _ in range(6)]
    homes = [who_answers(pool, rollout) for rollout in rollouts]
    assert homes == [0, 1, 0, 1, 0, 1]
    assert [who_answers(pool, rollout) for rollout in reversed(rollouts)] == homes[::-1]


def test_a_rollout_begins_where_fewest_requests_are(
    pool: EnginePool, engines: list[MortalEngine]
) -> None:
    engines[0].may_answer.clear()
    with ThreadPoolExecutor() as threads:
        held = threads.submit(who_answers, pool, uuid4())
        while not pool._replicas[0].in_flight:
            threading.Event().wait(0.01)
        assert [who_answers(pool, uuid4()) for _ in range(4)] == [1, 1, 1, 1]
        engines[0].may_answer.set()
        assert held.result() == 0


def test_others_go_on_while_a_dead_replica_returns(
    pool: EnginePool, engines: list[MortalEngine]
) -> None:
    lost, kept = uuid4(), uuid4()
    assert [who_answers(pool, lost), who_answers(pool, kept)] == [0, 1]
    engines[0].dead = True
    with pytest.raises(EngineUnavailable):
        who_answers(pool, lost)
    assert pool.revive() is False
    assert [who_answers(pool, uuid4()) for _ in range(3)] == [1, 1, 1]
    assert who_answers(pool, kept) == 1
    engines[0].may_return.set()
    while not pool.revive():
        threading.Event().wait(0.01)
    assert who_answers(pool, lost) == 0
    assert 0 in [who_answers(pool, uuid4()) for _ in range(4)]


def test_weights_wait_for_a_replica_that_is_returning_and_reach_all(
    pool: EnginePool, engines: list[MortalEngine], tmp_path: Path
) -> None:
    engines[1].dead = True
    pool.revive()
    threading.Timer(0.1, engines[1].may_return.set).start()
    pool.load_weights(tmp_path, 7)
    assert not engines[1].dead
    assert [e.policy_version for e in engines] == [7, 7] == [pool.policy_version] * 2
    pool.close()
    assert all(engine.closed for engine in engines)


def test_weights_do_not_pass_over_a_replica_that_did_not_come_back(
    pool: EnginePool, engines: list[MortalEngine], tmp_path: Path
) -> None:
    engines[1].dead, engines[1].lost = True, EngineUnavailable("no room")
    pool.revive()
    engines[1].may_return.set()
    with pytest.raises(EngineUnavailable, match="no room"):
        pool.load_weights(tmp_path, 7)
    assert pool.policy_version == 0


def test_one_that_does_not_start_closes_the_others(engines: list[MortalEngine]) -> None:
    def fails() -> MortalEngine:
        raise EngineUnavailable("no room")

    with pytest.raises(EngineUnavailable, match="no room"):
        start_all([lambda: engines[0], fails])
    assert engines[0].closed


def test_two_real_replicas_say_the_same_after_a_push(run_config: MakeConfig) -> None:
    config = run_config()
    policy = load_policy(config.model, temperature=1.0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    start = [lambda: TransformersEngine(config)] * 2
    with closing(start_all(start)) as pool, closing(FileSync(policy, pool, torch.float32)) as sync:
        before = sample(pool)
        sync.push(1)
        after = sample(pool)
    assert before[0] == before[1] != after[0] == after[1]


def sample(pool: EnginePool) -> list[list[int]]:
    """What each replica samples from one seed."""
    return [
        engine.complete([1, 2, 3], max_tokens=8, temperature=1.0, seed=1, timeout_s=60).token_ids
        for engine in pool.engines
    ]


@pytest.mark.parametrize(
    ("hardware", "engine", "expected"),
    [
        ({"gpus_per_node": 0}, {"replicas": 1}, [[]]),
        ({"gpus_per_node": 1}, {"replicas": 1}, [[0]]),
        (
            {"gpus_per_node": 8, "ranks_per_node": 4},
            {"replicas": 2, "tensor_parallel": 2},
            [[4, 5], [6, 7]],
        ),
        (
            {"gpus_per_node": 8},
            {"replicas": 4, "tensor_parallel": 2},
            [[0, 1], [2, 3], [4, 5], [6, 7]],
        ),
    ],
)
def test_replicas_have_gpus_of_their_own_where_there_are_enough(
    hardware: dict[str, int], engine: dict[str, int], expected: list[list[int]]
) -> None:
    config = load_recipe("starter-cpu", {"hardware": hardware, "engine": engine})
    assert [engine_gpus(config, n) for n in range(config.engine.replicas)] == expected


def test_an_engine_gets_gpus_of_those_that_its_trainer_was_given() -> None:
    assert visible([2, 3], None) == visible([2, 3], "") == ["2", "3"]
    assert visible([2, 3], "4,5,6,7") == ["6", "7"]
    assert visible([1], "GPU-6bf1, GPU-9a40") == ["GPU-9a40"]
    with pytest.raises(ConfigError, match="needs GPU 3, and CUDA_VISIBLE_DEVICES=4,5 shows 2"):
        visible([2, 3], "4,5")
