"""`python -m trainer.grade PREDICTIONS TASKSET DIR`: grade a file of SWE-bench predictions; no model is asked.

Each prediction becomes the one finished turnless rollout of its task, in an evaluation's folder: so it goes on after a stop,
INFRA is tried again, and `python -m trainer.report DIR` and the pages read it like any other. An instance that occurs more
than once has that many rollouts, in the file's order.

Exit codes: 0 graded, 1 failed, 2 nothing can be graded, 3 stopped.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import tomli_w

from sandbox.base import BACKENDS, SandboxLabels
from sandbox.errors import Outcome, TasksetError
from sandbox.task import Task, load_taskset
from trainer.config import ConfigError
from trainer.engines.chat import Chat
from trainer.engines.generate import Completion, Engine, EngineUnavailable
from trainer.evaluate import Share, evaluated_tasks, identify, only_one, run
from trainer.evaluations.config import EVAL_FILE, EvalConfig, parse_evaluation
from trainer.evaluations.endpoint import TextChat
from trainer.evaluations.evaluator import Evaluator, Place
from trainer.evaluations.predictions import Prediction, instance_of, read_predictions
from trainer.evaluations.shards import Shard
from trainer.grpo.rollout import Rollout
from trainer.rollouts.collect import LEASE_MARGIN_S, rollout_started
from trainer.stop import stop_on_signals


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        predictions = read_predictions(options.predictions)
        patches = patches_by_task(predictions, load_taskset(options.taskset).tasks)
        config = configure(options, predictions[0].model_name_or_path, patches)
        with stop_on_signals() as stop, only_one(options.folder):
            (options.folder / EVAL_FILE).write_text(
                tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
            )
            share = Share(
                config=config,
                tasks=evaluated_tasks(config.tasks),
                folder=options.folder,
                evaluation=identify(options.folder, None),
                shard=Shard(),
            )
            return run(share, stop.is_set, no_model, partial(Grader, patches=patches))
    except (ConfigError, TasksetError) as error:
        print(error, file=sys.stderr)
        return 2


Patches = Mapping[str, Sequence[bytes]]
"""task_id -> its patches, in the order of the rollouts."""


def patches_by_task(predictions: Sequence[Prediction], tasks: Sequence[Task]) -> Patches:
    """Raises ConfigError naming what is in the file and not in the taskset."""
    names = {instance_of(task.task_id): task.task_id for task in tasks}
    patches: dict[str, list[bytes]] = {}
    for prediction in predictions:
        task_id = names.get(instance_of(prediction.instance_id)) or names.get(
            prediction.instance_id
        )
        if task_id is None:
            message = f"{prediction.instance_id}: not an instance of this taskset; name another"
            raise ConfigError([("predictions", message)])
        patches.setdefault(task_id, []).append((prediction.model_patch or "").encode())
    return patches


def digest_of(patches: Patches) -> str:
    """Of all of them: a folder that was begun with others is not gone on with."""
    told = json.dumps({task: [p.decode() for p in patches[task]] for task in sorted(patches)})
    return f"sha256 {hashlib.sha256(told.encode()).hexdigest()}"


def configure(options: argparse.Namespace, model: str, patches: Patches) -> EvalConfig:
    """An evaluation with nothing said of a model but its name."""
    sandbox = {
        name: value
        for name in ("backend", "memory_mib", "grading_timeout_s")
        if (value := getattr(options, name)) is not None
    }
    return parse_evaluation(
        {
            "description": f"Predictions of {options.predictions.name}, graded: {digest_of(patches)}.",
            "model": {"path": model or options.predictions.stem},
            "tasks": {
                "taskset": options.taskset,
                "split": "all",
                "only": sorted(instance_of(task_id) for task_id in patches),
            },
            "rollout": {
                "group_size": max(map(len, patches.values())),
                "concurrency": options.jobs,
            },
            "engine": {"max_model_len": 40960},
            "sandbox": sandbox | {"concurrency": options.jobs},
        }
    )


class NoModel:
    """Stands where an engine does: nothing is sampled."""

    policy_version = 0

    def complete(
        self,
        prompt_ids: list[int],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        timeout_s: float,
        rollout: UUID | None = None,
    ) -> Completion:
        raise EngineUnavailable("predictions are graded without a model")

    def load_weights(self, folder: Path, policy_version: int) -> None:
        raise EngineUnavailable("predictions are graded without a model")

    def revive(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to end."""


def no_model(share: Share, stopping: Callable[[], bool]) -> tuple[Engine, Chat]:
    return NoModel(), TextChat()


@dataclass(kw_only=True)
class Grader(Evaluator):
    """An evaluator whose rollouts are given by their patches."""

    patches: Patches

    def evaluate(self, places: Iterable[Place]) -> None:
        """As `Evaluator`, of the places that have a patch."""
        super().evaluate(p for p in places if p.index < len(self.patches[p.task.task_id]))

    def _attempt(self, task: Task, rollout: Rollout) -> None:
        self.events.write(rollout_started(rollout, prompt=""))
        labels = SandboxLabels.held_here(
            run=str(self.run),
            rollout=str(rollout.id),
            for_s=self.config.sandbox.grading_timeout_s + LEASE_MARGIN_S,
        )
        rollout.patch = self.patches[rollout.task_id][rollout.index]
        rollout.outcome, rollout.termination_reason = Outcome.TASK, "finished"
        self._grade(task, rollout, labels)
        self._emit_finished(rollout)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.grade", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("predictions", type=Path, help="JSON lines, or JSON")
    parser.add_argument("taskset", help="a bundled taskset's name, or a taskset folder")
    parser.add_argument("folder", type=Path, help="where the results go")
    parser.add_argument("--backend", choices=tuple(BACKENDS), help="default: bubblewrap")
    parser.add_argument("--jobs", type=int, default=6, help="gradings at a time; default: 6")
    parser.add_argument("--memory-mib", type=int, help="of one sandbox; default: 256")
    parser.add_argument(
        "--grading-timeout-s", type=float, help="for the tests of one patch; default: 300"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
