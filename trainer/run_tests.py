"""`python -m trainer.run_tests EVAL_DIR --name NAME --model M [--endpoint URL]`: verify rollouts by tests that anybody may run.

First the testgen agent writes one script of reproduction tests a task (prompt trainer/prompts/testgen.toml), as an evaluation
of its own in EVAL_DIR/open_tests/NAME, whose reward is 1 when a case of the script shows the issue in the untouched
repository. Then each patch is run in a fresh sandbox against that script and against the repository's own tests that passed
before: the counts, tied to the rollout's id, are EVAL_DIR/open_tests/NAME/counts.jsonl. Started again it does what is missing,
also of rollouts and tasks that the evaluation has since; counts of a task are all by one script. What another model wrote under
the name is set aside, in open_tests/NAME/earlier.
`trainer.evaluations.selection` says how counts choose, `python -m trainer.report EVAL_DIR` what that is worth.

Exit codes: 0 done, 1 some have no counts or no model was to be had, 2 the configuration is wrong, 3 stopped.
"""

import argparse
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import tomli_w

from sandbox.base import BACKENDS, Backend, SandboxLabels
from sandbox.deployment import configured_backend
from sandbox.errors import Outcome, TasksetError
from sandbox.grading.counts import Counts
from sandbox.grading.open_tests import Before, OpenTests
from sandbox.pool import Pool
from sandbox.task import Task, load_taskset
from trainer.config import ConfigError
from trainer.evaluate import (
    LOCK_FILE,
    Share,
    evaluated_tasks,
    identify,
    only_one,
    run,
    with_kept_model,
)
from trainer.evaluations.config import EVAL_FILE, EvalConfig, parse_evaluation
from trainer.evaluations.counts import COUNTS_FILE, counts_path, line_of, read_counts
from trainer.evaluations.evaluator import Evaluator
from trainer.evaluations.predictions import instance_of
from trainer.evaluations.results import Result, read_header, read_results
from trainer.evaluations.shards import Shard
from trainer.events import EVENTS_FILE
from trainer.grpo.rollout import Rollout
from trainer.rollouts.collect import limits_of
from trainer.stop import STOPPED, stop_on_signals
from trainer.verify import appended, verifier_name

log = logging.getLogger("trainer.run_tests")

PROMPT = "testgen"
EARLIER = "earlier"
SANDBOX_LIFE_S = 3600.0
"""After so long anybody may remove a sandbox of ours; one counting takes far less."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    folder = counts_path(options.eval_dir, options.name).parent
    try:
        config = parse_evaluation(read_header(options.eval_dir).started.config)
        results = [r for r in read_results(options.eval_dir) if r.reward is not None]
        with stop_on_signals() as stop, only_one(folder):
            set_aside_another_models(folder, options)
            missing = left_to_count(folder, results)
            num_known = len(results) - len(missing)
            if not missing:
                return _told(0, num_known, 0)
            writing = testgen_config(config, options, sorted({r.task for r in missing}))
            code = write_scripts(writing, folder, stop.is_set)
            if code:
                return code
            num_counted = count(writing, folder, missing, stop)
        code = _told(num_counted, num_known, len(missing) - num_counted)
        return STOPPED if stop.is_set() else code
    except (ConfigError, TasksetError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2


def _told(num_counted: int, num_known: int, num_failed: int) -> int:
    """The exit code of a command that was not stopped."""
    print(f"{num_counted} rollouts counted, {num_known} were known, {num_failed} have no counts")
    return 1 if num_failed else 0


# ---- the scripts


def set_aside_another_models(folder: Path, options: argparse.Namespace) -> None:
    """What another model wrote under this name, and what was counted by it, goes to a folder named by its evaluation's id."""
    try:
        started = read_header(folder).started
    except FileNotFoundError:
        return
    model = started.config["model"]
    of_options = Path(model["path"]).is_relative_to(options.model)
    if of_options and model["endpoint"] == options.endpoint:
        return
    aside = folder / EARLIER / str(started.run)
    log.warning("%s: was written by %s; set aside: %s", folder, model["path"], aside)
    aside.mkdir(parents=True, exist_ok=True)
    here = [path for path in folder.iterdir() if path.name not in (EARLIER, LOCK_FILE)]
    # the events last: they say whose all this is
    for path in sorted(here, key=lambda path: path.name == EVENTS_FILE):
        path.rename(aside / path.name)


def testgen_config(
    config: EvalConfig, options: argparse.Namespace, task_ids: Sequence[str]
) -> EvalConfig:
    """The evaluation that writes the scripts: this one's limits and sandboxes, another model and prompt. Raises ConfigError."""
    data: dict[str, Any] = config.model_dump(mode="json")
    data["model"] |= {"path": options.model, "endpoint": options.endpoint, "api_key_file": ""}
    data["description"] = f"Reproduction tests by {options.name}."
    data["tasks"] = {
        "taskset": options.taskset or config.tasks.taskset,
        "split": "all",
        "only": [instance_of(task_id) for task_id in task_ids],
    }
    data["rollout"] |= {"group_size": 1, "prompt": PROMPT}
    data["sandbox"] |= {"backend": options.backend} if options.backend else {}
    return parse_evaluation(data)


def write_scripts(config: EvalConfig, folder: Path, stopping: Callable[[], bool]) -> int:
    """One a task, where there is none yet. Returns the exit code of that evaluation."""
    (folder / EVAL_FILE).write_text(
        tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
    )
    share = Share(
        config=with_kept_model(folder, config),
        tasks=evaluated_tasks(config.tasks),
        folder=folder,
        evaluation=identify(folder, None),
        shard=Shard(),
        other_tasks=True,
    )
    return run(share, stopping, evaluator=ScriptWriter)


@dataclass(kw_only=True)
class ScriptWriter(Evaluator):
    """An evaluator whose rollouts are worth 1 when their script shows the issue; hidden tests are not run."""

    def _grade(self, task: Task, rollout: Rollout, labels: SandboxLabels) -> None:
        began = time.monotonic()
        tests = OpenTests(task, rollout.patch, self.backend, labels=labels, limits=self._limits)
        found = tests.num_reproduced()
        rollout.grade_s = time.monotonic() - began
        if found is None:
            rollout.outcome, rollout.termination_reason = Outcome.INFRA, "infra"
            rollout.reason = "no sandbox to run the script in"
        else:
            rollout.reward = float(found > 0)
            rollout.reason = f"{found} cases of the script show the issue."


def scripts_of(folder: Path) -> dict[str, bytes]:
    """task -> the patch that makes its script, of those whose script shows the issue."""
    return {result.task: result.patch for result in read_results(folder) if result.reward}


# ---- the counts


def left_to_count(folder: Path, results: Sequence[Result]) -> list[Result]:
    """What has no counts. Where a task's script is not here, what was counted by it goes: all of the task is counted anew."""
    path = folder / COUNTS_FILE
    known = read_counts(path)
    written = {result.task for result in read_results(folder) if result.reward is not None}
    anew = {result.task for result in results if result.rollout not in known} - written
    dropped = {result.rollout for result in results if result.task in anew} & known.keys()
    if dropped:
        kept = path.with_suffix(".kept")
        lines = (line_of(*row) for row in known.items() if row[0] not in dropped)
        kept.write_text("".join(lines))
        kept.replace(path)
    return [r for r in results if r.rollout not in known or r.rollout in dropped]


def count(
    config: EvalConfig, folder: Path, missing: Sequence[Result], stop: threading.Event
) -> int:
    """How many could be counted."""
    tasks = {task.task_id: task for task in load_taskset(config.tasks.taskset).tasks}
    with (
        closing(Pool(configured_backend(config.sandbox.backend))) as backend,
        appended(folder / COUNTS_FILE) as lines,
    ):
        counter = Counter(config, tasks, scripts_of(folder), backend)
        num_counted = 0
        for rollout, counts in counter.run(missing, stop):
            lines.write(line_of(rollout, counts))
            lines.flush()
            num_counted += 1
    return num_counted


class Counter:
    """Runs open tests against patches, equal patches of a task once."""

    def __init__(
        self,
        config: EvalConfig,
        tasks: Mapping[str, Task],
        scripts: Mapping[str, bytes],
        backend: Backend,
    ) -> None:
        self._tasks, self._scripts, self._backend = tasks, scripts, backend
        self._jobs, self._limits = config.sandbox.concurrency, limits_of(config.sandbox)
        self._run = f"run-tests-{uuid4()}"

    def run(
        self, results: Sequence[Result], stop: threading.Event
    ) -> Iterator[tuple[UUID, Counts]]:
        """Each rollout with its counts, as they come; one without a sandbox is told in the log. After an error, or when the
        caller wants no more, nothing is begun.
        """
        by_patch: dict[tuple[str, bytes], list[UUID]] = {}
        for result in results:
            by_patch.setdefault((result.task, result.patch), []).append(result.rollout)
        with ThreadPoolExecutor(self._jobs, "run-tests") as pool:
            try:
                before = self._before(pool, {task for task, _ in by_patch}, stop)
                futures = {
                    pool.submit(self._count, task, patch, before.get(task), stop): rollouts
                    for (task, patch), rollouts in by_patch.items()
                }
                for future in as_completed(futures):
                    if counts := future.result():
                        yield from ((rollout, counts) for rollout in futures[future])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _before(
        self, pool: ThreadPoolExecutor, tasks: set[str], stop: threading.Event
    ) -> dict[str, Before]:
        found = pool.map(
            lambda task: None if stop.is_set() else self._tests(task).before(), sorted(tasks)
        )
        return {task: before for task, before in zip(sorted(tasks), found, strict=True) if before}

    def _count(
        self, task: str, patch: bytes, before: Before | None, stop: threading.Event
    ) -> Counts | None:
        if before is None or stop.is_set():
            return None
        counts = self._tests(task).count(patch, before)
        if counts is None:
            log.warning("%s: a patch has no counts: no sandbox was to be had", task)
        return counts

    def _tests(self, task: str) -> OpenTests:
        labels = SandboxLabels(
            run=self._run,
            rollout=str(uuid4()),
            owner=f"{socket.gethostname()}:{os.getpid()}",
            expires=time.time() + SANDBOX_LIFE_S,
        )
        return OpenTests(
            self._tasks[task],
            self._scripts.get(task, b""),
            self._backend,
            labels=labels,
            limits=self._limits,
        )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.run_tests", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("eval_dir", type=Path, help="folder of an evaluation")
    parser.add_argument(
        "--name", type=verifier_name, required=True, help="what reports call the verifier"
    )
    parser.add_argument("--model", required=True, help="that writes the tests: folder or id")
    parser.add_argument("--endpoint", default="", help="an OpenAI-compatible server: .../v1")
    parser.add_argument("--taskset", default="", help="name or folder; default: the evaluation's")
    parser.add_argument("--backend", choices=tuple(BACKENDS), help="default: the evaluation's own")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
