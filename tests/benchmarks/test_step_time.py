"""The benchmark's arithmetic, and a tiny step of our side with the real engine and sandboxes."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.comparison import AIMS, ratios, summarise, table
from benchmarks.measurement import StepTime, Workload, alternating_rewards, load_steps, save_steps
from benchmarks.step_time import main, parse_arguments
from benchmarks.workload import make_workload, our_config
from sandbox.task import load_taskset
from trainer.engines.chat import Chat, load_prompt

MODEL = Path("var/models/smollm2-135m")
needs_model = pytest.mark.skipif(
    not (MODEL / "model.safetensors").is_file(), reason=f"{MODEL}: make setup makes it"
)


def step_time(sampling_s: float, update_s: float, sampled_tokens: int) -> StepTime:
    return StepTime(
        sampling_s=sampling_s,
        update_s=update_s,
        whole_s=sampling_s + update_s + 1,
        num_rollouts=4,
        prompt_tokens=400,
        sampled_tokens=sampled_tokens,
    )


def test_warmup_steps_do_not_count() -> None:
    steps = [step_time(90, 90, 999), step_time(2, 3, 80), step_time(4, 5, 120)]
    summary = summarise(steps, warmup=1)
    assert summary.seconds == {"sampling": 3.0, "update": 4.0, "whole": 8.0}
    assert (summary.num_rollouts, summary.prompt_tokens, summary.sampled_tokens) == (4, 100, 25)


def test_time_by_the_token_is_over_all_rollouts_of_a_step() -> None:
    summary = summarise([step_time(2, 4, 80)], warmup=0)
    assert summary.milliseconds_per_token == {"sampling": 25.0, "update": 50.0, "whole": 87.5}


def test_a_measurement_of_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup=1: leaves none of 1 step\(s\)"):
        summarise([step_time(1, 1, 10)], warmup=1)


def test_a_ratio_says_how_many_times_as_long_theirs_takes() -> None:
    ours = {"sampling": 10.0, "update": 20.0, "whole": 32.0}
    theirs = {"sampling": 50.0, "update": 100.0, "whole": 160.0}
    assert ratios(ours, theirs) == {"sampling": 5.0, "update": 5.0, "whole": 5.0}


def test_the_table_names_both_trainers_and_every_aim() -> None:
    ours, theirs = (
        summarise([step_time(2, 4, 80)], warmup=0),
        summarise([step_time(9, 20, 160)], warmup=0),
    )
    lines = table(ours, theirs, "TRL 1.16.0").splitlines()
    assert lines[0] == "|  | ours | TRL 1.16.0 | ratio | aim |"
    assert lines[3] == f"| update, s a step | 4.0 | 20.0 | 5.0 | {AIMS['update']:.0f} |"
    assert lines[6] == "| update, ms a sampled token | 50.0 | 125.0 | 2.5 |  |"
    assert "| sampled tokens a rollout | 20.0 | 40.0 |  |  |" in lines


def test_the_table_tells_the_updates_share_of_the_ceiling() -> None:
    step = dataclasses.replace(step_time(2, 4, 80), update_tflops=0.4, matmul_tflops=0.8)
    summary = summarise([step], warmup=0)
    assert "| update, share of them | 50% |  |  | 30% |" in table(summary, summary, "TRL")


def test_every_group_has_mixed_rewards() -> None:
    assert alternating_rewards(8) == [1, 0] * 4
    assert alternating_rewards(2) == [1, 0]


def test_steps_come_back_as_they_were_written(tmp_path: Path) -> None:
    steps = [step_time(1.5, 2.25, 33), step_time(3, 4, 5)]
    save_steps(steps, tmp_path / "steps.json")
    assert load_steps(tmp_path / "steps.json") == steps


def test_smoke_gives_way_to_sizes_that_are_named() -> None:
    arguments = parse_arguments(["--smoke", "--group-size", "4"])
    assert (arguments.tasks, arguments.group_size, arguments.warmup) == (2, 4, 0)


@needs_model
def test_the_workload_is_the_recipe_cut_to_one_turn(tmp_path: Path) -> None:
    workload = make_workload(num_tasks=2, group_size=4, max_tokens=0)
    config = our_config(workload, num_steps=3)
    workload.save(tmp_path / "workload.json")
    assert Workload.load(tmp_path / "workload.json") == workload
    assert workload.num_rollouts == 8
    assert config.rollout.max_turns == 1
    assert (
        config.rollout.max_turn_tokens == config.rollout.max_response_tokens == workload.max_tokens
    )
    assert config.algorithm.compact_filtering == []


@needs_model
def test_the_rendered_prompt_encodes_to_what_our_engine_is_given() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    workload = make_workload(num_tasks=1, group_size=2, max_tokens=8)
    tasks = {task.task_id: task for task in load_taskset("starter").tasks}
    messages = load_prompt("starter").messages(tasks[workload.task_ids[0]])
    # TRL encodes a text prompt by a plain call of the tokenizer
    assert tokenizer(workload.prompts[0])["input_ids"] == Chat(tokenizer).encode_prompt(messages)


@pytest.mark.slow
@needs_model
def test_a_tiny_step_of_ours_is_timed_with_the_real_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["step_time", "--smoke", "--ours-only", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    assert main() == 0
    results = json.loads(next(tmp_path.glob("*.json")).read_text())
    (step,) = results["ours"]["steps"]
    assert step["num_rollouts"] == 4
    assert 4 <= step["sampled_tokens"] <= 64
    assert step["sampling_s"] + step["update_s"] <= step["whole_s"]
    assert 0 < step["update_tflops"] < step["matmul_tflops"]
    assert results["machine"]["cores"] >= 1
    assert results["ours"]["versions"]["torch"]
