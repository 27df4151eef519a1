"""An evaluation's folder with outcomes of DeepSWE's published sizes: 500 tasks x 16 rollouts, pass@1 42.2 %, pass@16 71.0 %.

    python -m tests.web.published_sizes FOLDER

Synthetic, to look at pages and at how long they take; no model and no sandbox had a part in it.
"""

import sys
from pathlib import Path
from uuid import UUID, uuid5

from trainer.evaluations.config import load_evaluation_recipe
from trainer.events import EventWriter, Finished, RolloutFinished, RolloutStarted, Started

NUM_TASKS, K = 500, 16
NUM_SOLVABLE, NUM_PASSED = 355, 3376
"""71.0 % of 500, and 42.2 % of 8,000."""
EVALUATION = UUID(int=422)


def num_passed() -> list[int]:
    """Of each task's 16 rollouts: from 1 to 16 over the tasks that are ever solved, none in the others."""
    counts = [1 + i * K // NUM_SOLVABLE for i in range(NUM_SOLVABLE)]
    below = [i for i in range(NUM_SOLVABLE) if counts[i] < K - 1]
    for n in range(NUM_PASSED - sum(counts)):
        counts[below[n % len(below)]] += 1
    return counts + [0] * (NUM_TASKS - NUM_SOLVABLE)


def write(folder: Path) -> None:
    events = EventWriter(folder)
    tasks = [f"verified/repo{i % 12}__project-{i:04}" for i in range(NUM_TASKS)]
    config = load_evaluation_recipe("deepswe").model_dump(mode="json")
    events.write(Started(run=EVALUATION, config=config, versions={}, host={}, tasks=tasks))
    for task, passed in zip(tasks, num_passed(), strict=True):
        for index in range(K):
            write_rollout(events, task, index, solved=(index * 7) % K < passed)
    events.write(Finished(status="finished", reason="pass@1 42.2% over 500 tasks", step=0))
    events.close()


def write_rollout(events: EventWriter, task: str, index: int, *, solved: bool) -> None:
    group, rollout = uuid5(EVALUATION, task), uuid5(EVALUATION, f"{task} {index}")
    shared = {"rollout": rollout, "group": group, "task": task, "step": 0, "purpose": "evaluation"}
    events.write(RolloutStarted(**shared, index=index, policy_version=0, prompt=""))
    # those who solve it agree more often than those who do not
    patch = f"+solution {index % 3}\n" if solved else f"+attempt {'x' * (index % 5)}{index}\n"
    events.write(
        RolloutFinished(
            **shared,
            outcome="task",
            termination_reason="finished" if solved or index % 4 else "max_turns",
            flags=[],
            reward=float(solved),
            num_turns=40 + index,
            num_prompt_tokens=1200,
            num_sampled_tokens=9000 + 100 * index,
            num_response_tokens=26000,
            tests={"test_a": "PASSED" if solved else "FAILED"},
            patch=patch,
            files={},
            seconds=1500.0,
            grade_s=60.0,
            reason="All 1 tests as expected." if solved else "1 of 1 tests not as expected.",
        )
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
