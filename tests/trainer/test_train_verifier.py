"""A verifier is trained on labelled rollouts and measured on tasks that it never saw."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from sandbox.task import load_taskset
from tests.trainer.scripted_endpoint import ScriptedEndpoint
from trainer import train_verifier
from trainer.evaluate import main as evaluate
from trainer.evaluations.config import EVAL_FILE
from trainer.evaluations.estimates import brier, calibration_error
from trainer.evaluations.scores import VERIFIER_FILE
from trainer.train_verifier import fit, quality
from trainer.verifiers.examples import Example, class_weights, split_by_task
from trainer.verifiers.local import LocalVerifier


def example(number: int) -> Example:
    """Solved ones have a patch that says so, in other words for each task."""
    solved = number % 3 == 0
    patch = f"+return right {number}" if solved else f"+pass wrong {number}"
    chat = [{"role": "user", "content": f"Issue {number * 7}.\n[PATCH]\n{patch}\n[/PATCH]"}]
    return Example(task=f"t/{number}", messages=chat, reward=float(solved))


def test_it_learns_to_tell_tasks_that_it_never_saw(tiny_model: Path) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    train, heldout = [example(i) for i in range(60)], [example(i) for i in range(100, 118)]
    before = quality(model, tokenizer, heldout)
    losses = fit(model, tokenizer, train, epochs=3, learning_rate=3e-3, seed=0)
    after = quality(model, tokenizer, heldout)
    assert len(losses) == 3 * 8
    assert before.auc is not None
    assert after.auc is not None
    assert after.auc > 0.95 > before.auc
    assert after.brier < before.brier / 2
    assert (after.num_examples, after.num_solved) == (18, 6)


def test_a_task_is_in_one_part_and_always_in_the_same() -> None:
    examples = [example(i % 50) for i in range(200)]
    train, heldout = split_by_task(examples, 0.2)
    assert len(train) + len(heldout) == 200
    assert not {e.task for e in train} & {e.task for e in heldout}
    assert 4 <= len({e.task for e in heldout}) <= 18
    assert split_by_task(examples[::-1], 0.2)[1] == heldout[::-1]


def test_both_classes_weigh_the_same() -> None:
    assert class_weights([1.0, 0.0, 0.0, 0.0]) == pytest.approx([2.0, 2 / 3, 2 / 3, 2 / 3])


def test_calibration_is_measured_by_hand() -> None:
    # two bins: 0.2 with none of one solved, 0.9 with one of two
    assert calibration_error([0.0, 1.0, 0.0], [0.2, 0.9, 0.9]) == pytest.approx((0.2 + 0.8) / 3)
    assert brier([0.0, 1.0], [0.2, 0.9]) == pytest.approx((0.04 + 0.01) / 2)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1))
def test_a_perfect_verifier_has_no_error(rewards: list[float]) -> None:
    assert brier(rewards, rewards) == calibration_error(rewards, rewards) == 0


def test_the_command_leaves_a_verifier_that_can_be_used(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = load_taskset("starter").tasks
    folder, out = tmp_path / "evaluation", tmp_path / "verifier"
    folder.mkdir()
    with ScriptedEndpoint(tasks, solves=lambda task, seed: seed % 2 == 0) as endpoint:
        (folder / EVAL_FILE).write_text(
            f"""
            model = {{ path = "m", endpoint = "{endpoint.url}" }}
            tasks = {{ split = "train", limit = 8 }}
            rollout = {{ group_size = 3, prompt = "starter" }}
            engine = {{ max_model_len = 40000 }}
            """
        )
        assert evaluate([str(folder)]) == 0
    arguments = ["--model", str(tiny_model), "--epochs", "1", "--max-tokens", "500"]
    assert train_verifier.main([str(out), str(folder), *arguments, "--heldout", "0.4"]) == 0
    told = json.loads((out / VERIFIER_FILE).read_text())
    assert told["num_train"] + told["after"]["num_examples"] == 24
    assert told["after"]["num_examples"] == 3 * len(told["heldout_tasks"])
    assert told["before"]["brier"] != told["after"]["brier"]
    assert 0 < LocalVerifier(str(out)).score(example(1).messages) < 1
    with_lora = [str(tmp_path / "with-lora"), str(folder), *arguments, "--heldout", "0.4"]
    assert train_verifier.main([*with_lora, "--lora-rank", "4"]) == 0
    assert 0 < LocalVerifier(with_lora[0]).score(example(1).messages) < 1
    assert train_verifier.main([*with_lora, "--lora-rank", "65"]) == 2
    assert "lora.rank: 65: q_proj itself" in capsys.readouterr().err
    assert train_verifier.main([str(out), str(folder), *arguments, "--heldout", "0"]) == 2
    assert "0 held-out rollouts" in capsys.readouterr().err
