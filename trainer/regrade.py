"""`python -m trainer.regrade EVAL_DIR`: grade the stored patches again, each in a fresh sandbox; no model is asked.

For a grader or a taskset that was put right, or to see whether grading is steady. Every scored rollout that left a patch is
graded anew and told by an event `regraded`, which from then on counts; where no sandbox is to be had the old grade stays.
SIGTERM ends it after the gradings under way; started again, it grades all anew.

Exit codes: 0 done, 2 nothing can be graded, 3 stopped. The last line printed says how many rewards changed.
"""

import argparse
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

from sandbox.base import BACKENDS, Backend, SandboxLabels
from sandbox.deployment import configured_backend
from sandbox.errors import TasksetError
from sandbox.grading.grade import Grade, GradeCache
from sandbox.pool import Pool
from sandbox.task import Task, load_taskset
from trainer.config import ConfigError
from trainer.evaluate import only_one
from trainer.evaluations.config import EvalConfig, parse_evaluation
from trainer.evaluations.results import Result, read_header, read_results
from trainer.events import EventWriter, Regraded
from trainer.rollouts.collect import limits_of
from trainer.stop import STOPPED, stop_on_signals

log = logging.getLogger("trainer.regrade")

SANDBOX_LIFE_S = 3600.0
"""After so long anybody may remove a sandbox of ours; one grading takes far less."""

FLAGS = {
    "tampered",
    "edited_tests",
    "startup_hook",
    "path_shim",
    "early_exit",
    "forged_log",
    "truncated_output",
}
"""What a grade says of a patch (`Grade.flags`): the last one counts. Others say what the agent did, and stay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    try:
        config = parse_evaluation(read_header(options.eval_dir).started.config)
        taskset = load_taskset(options.taskset or config.tasks.taskset)
        backend = Pool(configured_backend(options.backend or config.sandbox.backend))
        with stop_on_signals() as stop, closing(backend):
            regrading = Regrading(config, {t.task_id: t for t in taskset.tasks}, backend)
            before = [r for r in read_results(options.eval_dir) if can_be_graded(r)]
            after = regrading.run(before, stop)
    except (ConfigError, TasksetError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    changed = sum(after.get(r.rollout, r.reward) != r.reward for r in before)
    print(f"{len(after)} of {len(before)} patches graded again, {changed} rewards changed")
    return STOPPED if stop.is_set() else 0


def can_be_graded(result: Result) -> bool:
    """An agent that destroyed its own sandbox left no patch; INFRA has no score to replace."""
    finished = result.finished
    return finished.outcome == "task" or (
        finished.outcome == "agent_fault" and bool(finished.patch)
    )


class Regrading:
    """Grades the patches of one evaluation, into the events of their shards."""

    def __init__(self, config: EvalConfig, tasks: Mapping[str, Task], backend: Backend) -> None:
        self._tasks, self._backend = tasks, backend
        self._jobs = config.sandbox.concurrency
        self._limits = limits_of(config.sandbox)
        self._run = f"regrade-{uuid4()}"
        self._cache = GradeCache()

    def run(self, results: Sequence[Result], stop: threading.Event) -> dict[UUID, float]:
        """rollout -> its new reward, of those that could be graded before the stop. Raises TasksetError."""
        if unknown := sorted({r.task for r in results} - self._tasks.keys()):
            raise TasksetError(f"{unknown[0]}: not in the taskset; name it by --taskset")
        rewards: dict[UUID, float] = {}
        for folder in dict.fromkeys(result.folder for result in results):
            here = [result for result in results if result.folder == folder]
            with (
                only_one(folder),
                closing(EventWriter(folder)) as events,
                ThreadPoolExecutor(self._jobs, "regrade") as pool,
            ):
                for result, grade in zip(
                    here, pool.map(lambda r: self._grade(r, stop), here), strict=True
                ):
                    if grade is None:
                        continue
                    if grade.reward is None:
                        log.warning(
                            "%s #%d keeps its grade: %s", result.task, result.index, grade.reason
                        )
                    else:
                        events.write(_told(result, grade))
                        rewards[result.rollout] = grade.reward
        return rewards

    def _grade(self, result: Result, stop: threading.Event) -> Grade | None:
        if stop.is_set():
            return None
        labels = SandboxLabels.held_here(
            run=self._run,
            rollout=str(result.rollout),
            for_s=SANDBOX_LIFE_S,
        )
        task = self._tasks[result.task]
        return self._cache.grade(
            task, result.patch, self._backend, labels=labels, limits=self._limits
        )


def _told(result: Result, grade: Grade) -> Regraded:
    """The event, with the new test log beside the events, under a name of its own: one that is stored is not stored again."""
    files = {}
    if grade.log:
        files["test_log"] = f"rollouts/regraded/{result.rollout}-{uuid4()}.log"
        path = result.folder / files["test_log"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(grade.log)
    return Regraded(
        rollout=result.rollout,
        outcome=grade.outcome.value,
        reward=grade.reward,
        flags=sorted({*result.finished.flags} - FLAGS | grade.flags),
        tests=grade.tests,
        files=files,
        grade_s=round(grade.seconds, 3),
        reason=grade.reason,
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.regrade", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("eval_dir", type=Path, help="folder of an evaluation")
    parser.add_argument("--taskset", help="name or folder; default: the evaluation's own")
    parser.add_argument("--backend", choices=tuple(BACKENDS), help="default: the evaluation's own")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
