"""Checkpoints: whole or not at all, the newest kept, and the next update the same bit for bit."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.attempts import MIXED, make_config, make_groups
from tests.trainer.random_models import VOCABULARY, make_policy
from trainer.model.policy import Policy, make_optimizer
from trainer.training import checkpoint
from trainer.training.checkpoint import CheckpointError, Progress
from trainer.training.update import update

CONFIG = make_config(optimizer={"learning_rate": 1e-2, "warmup_steps": 3, "weight_decay": 0.1})
SAVE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from tests.trainer.test_checkpoint import NoTokenizer, new_policy, take_step
from trainer.training import checkpoint
from trainer.training.checkpoint import Progress
policy, optimizer = new_policy()
take_step(policy, optimizer, 1)
for step in itertools.count(1):
    checkpoint.save(Path(sys.argv[1]), policy, optimizer, Progress(step, step, step), NoTokenizer(), 2)
    print(step, flush=True)
"""


class NoTokenizer:
    """These models have no tokenizer to save."""

    def save_pretrained(self, folder: Path) -> None:
        (folder / "tokenizer_config.json").write_text("{}")


def new_policy(seed: int = 0) -> tuple[Policy, torch.optim.AdamW]:
    policy = make_policy("llama", seed=seed)
    return policy, make_optimizer(policy.model, CONFIG.optimizer)


def take_step(policy: Policy, optimizer: torch.optim.Optimizer, step: int) -> None:
    groups = make_groups(MIXED, CONFIG, vocabulary=VOCABULARY, seed=step)
    result = update(
        policy, optimizer, groups, CONFIG, step=step, reference=None, stopping=lambda: False
    )
    assert result.updated


def save(run_dir: Path, policy: Policy, optimizer: Any, step: int, keep: int = 2) -> Path:
    return checkpoint.save(
        run_dir, policy, optimizer, Progress(step, step, 8 * step), NoTokenizer(), keep
    )


def test_resuming_gives_the_same_next_update_bit_for_bit(tmp_path: Path) -> None:
    policy, optimizer = new_policy()
    take_step(policy, optimizer, 1)
    save(tmp_path, policy, optimizer, 1)
    drawn_after = torch.rand(3)
    take_step(policy, optimizer, 2)

    resumed, its_optimizer = new_policy(seed=5)
    progress = checkpoint.load(tmp_path, 1, resumed, its_optimizer)
    assert progress == Progress(1, 1, 8)
    assert torch.equal(torch.rand(3), drawn_after)
    take_step(resumed, its_optimizer, 2)

    for (name, one), other in zip(
        policy.model.named_parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    for one, other in zip(optimizer.state.values(), its_optimizer.state.values(), strict=True):
        assert torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    policy, optimizer = new_policy()
    for step in (2, 4, 9, 10):
        save(tmp_path, policy, optimizer, step)
    assert checkpoint.list_steps(tmp_path) == [9, 10]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_10", "step_9"]


def test_a_folder_that_was_never_finished_is_not_listed(tmp_path: Path) -> None:
    policy, optimizer = new_policy()
    save(tmp_path, policy, optimizer, 3)
    (tmp_path / "checkpoints" / ".step_4.tmp" / "model").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step_5").mkdir()
    assert checkpoint.list_steps(tmp_path) == [3]
    assert checkpoint.list_steps(tmp_path / "empty") == []


def stand_in_sync(
    monkeypatch: pytest.MonkeyPatch, root: Path, of_file: int, of_folder: int
) -> None:
    """A disk whose error comes when the data reaches it; 0: none. It holds that nothing is in place before."""

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        assert path == root / "checkpoints" or not (root / "checkpoints" / "step_2").exists()
        if error := of_folder if path.is_dir() else of_file:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", sync)


def test_a_checkpoint_that_does_not_reach_the_disk_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, optimizer = new_policy()
    save(tmp_path, policy, optimizer, 1, keep=1)
    stand_in_sync(monkeypatch, tmp_path, of_file=errno.EDQUOT, of_folder=0)
    with pytest.raises(CheckpointError, match="step_2: not saved .* free disk space"):
        save(tmp_path, policy, optimizer, 2, keep=1)
    assert checkpoint.list_steps(tmp_path) == [1]


def test_a_file_system_that_cannot_sync_folders_takes_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_sync(monkeypatch, tmp_path, of_file=0, of_folder=errno.EINVAL)
    save(tmp_path, *new_policy(), 2)
    assert checkpoint.list_steps(tmp_path) == [2]


def test_killed_at_any_moment_the_newest_listed_checkpoint_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as saver:
        assert saver.stdout is not None
        assert saver.stdout.readline() == "1\n"
        unfinished = tmp_path / "checkpoints"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not list(unfinished.glob(".step_*.tmp/optimizer.pt")):
            pass
        saver.send_signal(signal.SIGKILL)
    steps = checkpoint.list_steps(tmp_path)
    policy, optimizer = new_policy(seed=5)
    assert checkpoint.load(tmp_path, steps[-1], policy, optimizer).step == steps[-1]
    # and saving goes on where a torn folder lies in the way
    for path in unfinished.glob(".step_*.tmp"):
        step = int(path.name.removeprefix(".step_").removesuffix(".tmp"))
        save(tmp_path, policy, optimizer, step)
        assert checkpoint.list_steps(tmp_path)[-1] == step


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "rng.pt", "state.json", "model/model.safetensors"]
)
@pytest.mark.parametrize("left", [b"", b"torn", None], ids=["empty", "overwritten", "cut in half"])
def test_an_unreadable_checkpoint_names_its_folder_and_the_remedy(
    tmp_path: Path, name: str, left: bytes | None
) -> None:
    policy, optimizer = new_policy()
    folder = save(tmp_path, policy, optimizer, 3)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if left is None else left)
    with pytest.raises(CheckpointError, match="step_3: not readable .* remove it to resume"):
        checkpoint.load(tmp_path, 3, policy, optimizer)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    policy, optimizer = new_policy()
    save(tmp_path, policy, optimizer, 3)
    other = make_policy("qwen3")
    with pytest.raises(CheckpointError, match="step_3: not of the configured model"):
        checkpoint.load(tmp_path, 3, other, make_optimizer(other.model, CONFIG.optimizer))


def test_a_disk_that_refuses_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    policy, optimizer = new_policy()
    save(tmp_path, policy, optimizer, 3)

    class FullDisk:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="step_4: not saved .* free disk space"):
        checkpoint.save(tmp_path, policy, optimizer, Progress(4, 4, 4), FullDisk(), 2)
    assert checkpoint.list_steps(tmp_path) == [3]
    assert not list((tmp_path / "checkpoints").glob(".step_*"))


def test_the_size_is_that_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(1 << 20))
    (tmp_path / "two").write_bytes(bytes(1 << 19))
    assert checkpoint.size_mib(tmp_path) == 1.5
