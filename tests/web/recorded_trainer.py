"""A stand-in for `python -m trainer`: a process that writes a run's events at a given pace.

It keeps the trainer's manners: resumes after its last checkpoint when it is started again on the
same folder, saves a checkpoint on SIGTERM and ends with 0, and starts a helper process of its own.
It has no model and no sandbox; what its rollouts do is written down below, the same every time.

    python -m tests.web.recorded_trainer --pace 0.02 RUN_DIR --run-id UUID
"""

import argparse
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from uuid import UUID, uuid5

from sandbox.trajectory import Action, Turn
from trainer.config import CONFIG_FILE, TrainConfig, load_config
from trainer.events import (
    EVENTS_FILE,
    CheckpointSaved,
    Evaluated,
    Event,
    EventWriter,
    Finished,
    GroupScored,
    LogLine,
    PhaseEnded,
    Resumed,
    RolloutFinished,
    RolloutStarted,
    Started,
    StepEnded,
    TurnEnded,
    read_events,
)

TASKS = ["starter/count-up", "starter/frost-warning", "starter/sum-of-prices"]
PATCH = """\
diff --git a/prices.py b/prices.py
--- a/prices.py
+++ b/prices.py
@@ -1,3 +1,3 @@
 def total(prices):
     \"\"\"Sum of all prices.\"\"\"
-    return sum(prices[1:])
+    return sum(prices)
"""


class Stopped(BaseException):
    """SIGTERM came."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--run-id", type=UUID, required=True)
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between events")
    parser.add_argument("--linger", type=int, default=0, help="step to wait after, at first")
    parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM")
    parser.add_argument("--refuse", default="", help="say this and exit with 2")
    args = parser.parse_args()
    if args.refuse:
        print(args.refuse)
        return 2
    signal.signal(signal.SIGTERM, signal.SIG_IGN if args.deaf else _stop)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    config = load_config(args.run_dir / CONFIG_FILE)
    return train(args.run_dir, args.run_id, config, args.pace, args.linger)


def train(run_dir: Path, run_id: UUID, config: TrainConfig, pace: float, linger: int = 0) -> int:
    first, attempt = progress(run_dir)
    writer = EventWriter(run_dir)
    step = first - 1
    try:
        for event in record(run_dir, run_id, config, first, attempt):
            writer.write(event)
            step = event.step if isinstance(event, CheckpointSaved) else step
            time.sleep(pace)
            if isinstance(event, CheckpointSaved) and step == linger and attempt == 1:
                signal.pause()
    except Stopped:
        writer.write(CheckpointSaved(step=step, path=f"checkpoints/{step}", size_mib=1.0))
        writer.write(Finished(status="stopped", reason="Stopped by a signal.", step=step))
    writer.close()
    return 0


def progress(run_dir: Path) -> tuple[int, int]:
    """The step to begin with and the number of this attempt."""
    saved, attempts = 0, 0
    if (run_dir / EVENTS_FILE).exists():
        for _, event in read_events(run_dir / EVENTS_FILE):
            saved = event.step if isinstance(event, CheckpointSaved) else saved
            attempts += isinstance(event, Started | Resumed)
    return saved + 1, attempts + 1


def record(
    run_dir: Path, run_id: UUID, config: TrainConfig, first: int, attempt: int
) -> Iterator[Event]:
    """All events from step `first` to the end."""
    if attempt == 1:
        data = config.model_dump(mode="json")
        host = {"name": "stand-in", "cores": 2, "memory_mib": 8192, "gpus": []}
        yield Started(run=run_id, config=data, versions={"trainer": "0"}, host=host, tasks=TASKS)
        yield from evaluation(run_dir, run_id, attempt, 0)
    else:
        yield Resumed(run=run_id, attempt=attempt, from_step=first - 1)
    for step in range(first, config.num_steps + 1):
        for task in TASKS[:2]:
            yield from group(run_dir, run_id, attempt, step, task, "train")
        yield PhaseEnded(step=step, phase="rollout", seconds=2.0)
        yield PhaseEnded(step=step, phase="update", seconds=1.0)
        yield StepEnded(
            step=step, policy_version=step, updated=True, seconds=3.5, metrics=metrics(step)
        )
        yield CheckpointSaved(step=step, path=f"checkpoints/{step}", size_mib=1.0)
        yield PhaseEnded(step=step, phase="checkpoint", seconds=0.5)
    yield from evaluation(run_dir, run_id, attempt, config.num_steps)
    yield LogLine(level="info", text="all steps done")
    yield Finished(status="finished", reason="All steps done.", step=config.num_steps)


def group(
    run_dir: Path, run_id: UUID, attempt: int, step: int, task: str, purpose: str
) -> Iterator[Event]:
    """Four rollouts; more of them solve the task as the steps go by."""
    group_id = uuid5(run_id, f"{attempt}/{purpose}/{step}/{task}")
    rollouts = [uuid5(group_id, str(index)) for index in range(4)]
    shared = {"group": group_id, "task": task, "step": step, "purpose": purpose}
    for index, rollout in enumerate(rollouts):
        prompt = f"Fix {task}." if index == 0 else ""
        yield RolloutStarted(
            rollout=rollout, index=index, policy_version=step, prompt=prompt, **shared
        )
    for number in range(2):
        for rollout in rollouts:
            yield TurnEnded(rollout=rollout, turn=turn(number))
    rewards = [float(solves(rollout, step)) for rollout in rollouts]
    for rollout, reward in zip(rollouts, rewards, strict=True):
        log = Path("rollouts") / f"{rollout}.log"
        (run_dir / log.parent).mkdir(exist_ok=True)
        (run_dir / log).write_text(f"1 test, reward {reward}\n")
        yield RolloutFinished(
            rollout=rollout,
            outcome="task",
            termination_reason="finished",
            flags=[],
            reward=reward,
            num_turns=2,
            num_prompt_tokens=40,
            num_sampled_tokens=60,
            num_response_tokens=90,
            tests={"test_total": "PASSED" if reward else "FAILED"},
            patch=PATCH if reward else "",
            files={"test_log": str(log)},
            seconds=2.0,
            grade_s=0.3,
            reason="All expected tests passed." if reward else "test_total failed.",
            **shared,
        )
    if purpose == "train":
        mean = sum(rewards) / 4
        yield GroupScored(
            group=group_id,
            task=task,
            step=step,
            rollouts=rollouts,
            advantages=[(reward - mean) * 4 / 3 for reward in rewards],
            filtered=[False] * 4,
            trained=0 < mean < 1,
        )


def evaluation(run_dir: Path, run_id: UUID, attempt: int, step: int) -> Iterator[Event]:
    yield from group(run_dir, run_id, attempt, step, TASKS[2], "evaluation")
    yield Evaluated(
        step=step,
        policy_version=step,
        num_tasks=1,
        group_size=4,
        mean_reward=0.25,
        scores={TASKS[2]: [0.0, 1.0, 0.0, 0.0]},
        seconds=2.5,
    )
    yield PhaseEnded(step=step, phase="evaluate", seconds=2.5)


def turn(number: int) -> Turn:
    if number == 0:
        return Turn(
            index=0,
            text="Let me look.\n<function=execute_bash><parameter=cmd>cat prices.py</parameter>",
            thought="Let me look.",
            action=Action(tool="execute_bash", arguments={"cmd": "cat prices.py"}),
            observation="def total(prices):\n    return sum(prices[1:])\n\0",
            exit_code=0,
            num_prompt_tokens=40,
            num_sampled_tokens=30,
            generate_s=0.8,
            tool_s=0.1,
        )
    return Turn(
        index=1,
        text="<function=finish>",
        action=Action(tool="finish", arguments={}),
        num_prompt_tokens=90,
        num_sampled_tokens=30,
        generate_s=0.9,
    )


def solves(rollout: UUID, step: int) -> bool:
    return hashlib.sha256(rollout.bytes).digest()[0] < 60 + 30 * step


def metrics(step: int) -> dict[str, tuple[float, float]]:
    return {
        "reward/mean": (min(8.0, 1.0 + step), 8.0),
        "solved/some": (1.0, 2.0),
        "grad_norm": (0.5, 1.0),
        "mismatch/abs_diff": (0.01 * 480, 480.0),
    }


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
