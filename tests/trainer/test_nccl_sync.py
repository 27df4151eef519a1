"""vLLM's NCCL weight transfer, both sides of it, but for NCCL: two stand-in servers with vLLM's routes (`stand_in_vllm`).

The trainer's side is vLLM's engine too; in place of an NCCL communicator it opens vLLM's StatelessProcessGroup as rank 0.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.conftest import MakeConfig
from trainer.config import TrainConfig
from trainer.engines.generate import EngineUnavailable, start_engine
from trainer.engines.pool import EnginePool
from trainer.engines.vllm_engine import VllmEngine, replicas_of
from trainer.engines.weights import start_sync
from trainer.model.policy import Policy, engine_state, load_policy

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("vllm"), reason="vllm is not installed"
)
ROUND = ["pause keep", "start", "update", "finish", "reset", "resume"]


@pytest.fixture
def store_for_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.distributed.utils import StatelessProcessGroup
    from vllm.distributed.weight_transfer import nccl_engine

    def open_endpoint(info: Any) -> StatelessProcessGroup:
        return StatelessProcessGroup.create(
            info.master_address, info.master_port, rank=0, world_size=info.world_size
        )

    def broadcast(self: Any, source: Any, meta: Any) -> None:
        for _, tensor in self._checked_iter(source, meta):
            self.model_update_group.broadcast(tensor, src=0)

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", open_endpoint)
    monkeypatch.setattr(nccl_engine.NCCLTrainerWeightTransferEngine, "_broadcast", broadcast)


@pytest.fixture
def config(run_config: MakeConfig) -> TrainConfig:
    return run_config(
        model={"dtype": "bfloat16"},
        engine={"kind": "vllm", "replicas": 2, "weight_sync": "nccl"},
        hardware={"gpus_per_node": 3, "ranks_per_node": 1},
    )


@pytest.fixture
def pool(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EnginePool]:
    def stand_in(config: TrainConfig, port: int) -> list[str]:
        return [sys.executable, "-m", "tests.trainer.stand_in_vllm", str(port), str(tmp_path)]

    monkeypatch.setattr("trainer.engines.vllm_engine._command", stand_in)
    started = start_engine(config, tmp_path)
    assert isinstance(started, EnginePool)
    with closing(started):
        yield started


def test_new_weights_reach_every_replica_and_one_that_was_started_again(
    config: TrainConfig, pool: EnginePool, tmp_path: Path, store_for_nccl: None
) -> None:
    policy = load_policy(config.model, temperature=1.0)
    sync = start_sync("nccl", policy, pool, torch.bfloat16)
    sync.push(1)
    for rank in ("1", "2"):
        assert calls(tmp_path, rank) == ["init", *ROUND]
    assert_received(tmp_path, policy, version=1)
    assert pool.policy_version == 1
    assert who_answers(pool) == {1, 2}

    # the same group serves the next round
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight += 1
    sync.push(2)
    for rank in ("1", "2"):
        assert calls(tmp_path, rank) == ["init", *ROUND, *ROUND]
    assert_received(tmp_path, policy, version=2)

    # what the replicas refuse is told with its route, and they go on answering with the weights they have
    (tmp_path / "refuse").write_text("update")
    with pytest.raises(
        EngineUnavailable, match=r"version 3 did not reach .* /update_weights of replica 0"
    ):
        sync.push(3)
    assert calls(tmp_path, "1")[-1] == "resume"
    assert pool.policy_version == 2
    assert who_answers(pool) == {1, 2}
    (tmp_path / "refuse").unlink()

    # a dead replica comes back without weights, and answers nobody until a new group has brought them
    first, _ = replicas_of(pool)
    kill(first)
    assert first.revive()
    with pytest.raises(EngineUnavailable, match="not back within"):
        first.complete([1], max_tokens=1, temperature=1.0, seed=0, timeout_s=0.1)
    sync.renew(4)
    assert_received(tmp_path, policy, version=4)
    assert calls(tmp_path, "2")[-8:] == ["shutdown", "init", *ROUND]
    assert who_answers(pool) == {1, 2}


def calls(folder: Path, rank: str) -> list[str]:
    lines = [line.split(maxsplit=1) for line in (folder / "calls").read_text().splitlines()]
    return [name for who, name in lines if who == rank]


def assert_received(folder: Path, policy: Policy, version: int) -> None:
    expected = engine_state(policy, torch.bfloat16)
    for rank in (1, 2):
        received = load_file(folder / f"{version}-{rank}.safetensors")
        assert received.keys() == expected.keys()
        assert all(torch.equal(received[name], weight) for name, weight in expected.items())


def who_answers(pool: EnginePool) -> set[int]:
    def ask(engine: Any) -> int:
        return engine.complete([1], max_tokens=1, temperature=1.0, seed=0, timeout_s=30).token_ids[
            0
        ]

    with ThreadPoolExecutor() as threads:
        return set(threads.map(ask, pool.engines))


def kill(engine: VllmEngine) -> None:
    guard = engine._process.pid
    (server,) = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[:1]
    os.kill(int(server), signal.SIGKILL)
    while engine._process.exit_code() is None:
        pass
