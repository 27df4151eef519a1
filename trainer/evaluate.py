"""`python -m trainer.evaluate EVAL_DIR`: evaluate what EVAL_DIR/evaluation.toml says, or go on with what is there.

Every rollout of every task is done once: started again, only what has no score yet is done. `--shard i/n` does one share,
with an events file of its own in EVAL_DIR/shards; other processes may do the others at the same time, here or wherever the
folder is. SIGTERM or SIGINT ends it within seconds: what is under way is given up.

Exit codes: 0 finished, 1 failed (the last event says why), 2 the configuration is wrong, 3 stopped. Results and reports are
read from the folder: `python -m trainer.report EVAL_DIR`.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

from sandbox.deployment import configured_backend
from sandbox.errors import TasksetError
from sandbox.pool import Pool
from sandbox.reap import reap_quietly
from sandbox.task import Task, load_taskset
from trainer.config import ConfigError
from trainer.engines.chat import Chat, load_prompt
from trainer.engines.generate import Engine, start_engine
from trainer.evaluations.config import (
    EvalConfig,
    EvalTasksConfig,
    load_evaluation,
    model_folder,
)
from trainer.evaluations.estimates import pass_at_1
from trainer.evaluations.evaluator import Evaluator, Place
from trainer.evaluations.results import (
    RESULT_EVENTS,
    Result,
    read_header,
    results_of,
    rewards_by_task,
)
from trainer.evaluations.shards import Shard, parse_shard
from trainer.events import (
    EVENTS_FILE,
    Evaluated,
    EventWriter,
    Finished,
    LogLine,
    Resumed,
    Started,
    read_events_of,
)
from trainer.nodes.folder_lock import held_alone
from trainer.nodes.host import describe_host, package_versions
from trainer.recipes import merge
from trainer.stop import STOPPED, RunStopped, stop_on_signals

log = logging.getLogger("trainer.evaluate")

ID_FILE = "evaluation.id"
MODEL_FILE = "evaluation.model"
LOCK_FILE = "evaluate.lock"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        config = load_evaluation(options.eval_dir)
        with stop_on_signals() as stop, only_one(options.shard.folder(options.eval_dir)) as folder:
            tasks = evaluated_tasks(config.tasks)
            share = Share(
                config=with_kept_model(options.eval_dir, config),
                tasks=options.shard.of(tasks),
                folder=folder,
                evaluation=identify(options.eval_dir, options.evaluation_id),
                shard=options.shard,
            )
            return run(share, stop.is_set)
    except (ConfigError, TasksetError) as error:
        print(error, file=sys.stderr)
        return 2


@dataclass(frozen=True, kw_only=True)
class Share:
    """What this process is to do."""

    config: EvalConfig
    tasks: list[Task]
    folder: Path
    evaluation: UUID
    shard: Shard
    other_tasks: bool = False
    """Whether it may have other tasks than it began with."""


OpenModel = Callable[[Share, Callable[[], bool]], tuple[Engine, Chat]]


def run(
    share: Share,
    stopping: Callable[[], bool],
    open_model: OpenModel | None = None,
    evaluator: Callable[..., Evaluator] = Evaluator,
) -> int:
    """Evaluate with events; the last event tells how it ended. Returns the exit code.

    The model is the configured one, and `Evaluator` what makes rollouts of it, unless told otherwise.
    """
    began = time.monotonic()
    with closing(EventWriter(share.folder)) as events:
        try:
            announce(share, events)
            if left := places_left(share):
                model = partial(open_model or open_configured, share, stopping)
                roll_out(share, left, events, stopping, model, evaluator)
        except RunStopped:
            events.write(Finished(status="stopped", reason="stopped on request", step=0))
            return STOPPED
        except Exception as error:
            log.exception("the evaluation failed")
            reason = f"{type(error).__name__}: {error}"
            events.write(Finished(status="failed", reason=reason, step=0))
            return 2 if isinstance(error, ConfigError) else 1
        scored = evaluated(share, time.monotonic() - began)
        events.write(scored)
        events.write(Finished(status="finished", reason=told(scored), step=0))
        log.info("%s", told(scored))
    return 0


def roll_out(
    share: Share,
    places: Sequence[Place],
    events: EventWriter,
    stopping: Callable[[], bool],
    model: Callable[[], tuple[Engine, Chat]],
    evaluator: Callable[..., Evaluator],
) -> None:
    """Do these places. Raises RunStopped, EngineUnavailable."""
    config = share.config
    # sandboxes are labelled with the share: another one's are not ours to remove
    labelled = uuid5(share.evaluation, str(share.shard))
    with ExitStack() as resources:
        backend = Pool(
            configured_backend(config.sandbox.backend), max_operations=config.sandbox.concurrency
        )
        resources.callback(reap_quietly, backend, str(labelled))
        resources.callback(backend.close)
        backend.reap(run=str(labelled))
        engine, chat = model()
        resources.callback(engine.close)
        log.info("%d rollouts to do", len(places))
        evaluator(
            evaluation=share.evaluation,
            run=labelled,
            run_dir=share.folder,
            config=config.as_train_config(),
            engine=engine,
            chat=chat,
            prompt=load_prompt(config.rollout.prompt),
            backend=backend,
            events=events,
            stopping=stopping,
            infra_retries=config.infra_retries,
        ).evaluate(places)


def open_configured(share: Share, stopping: Callable[[], bool]) -> tuple[Engine, Chat]:
    """An engine that answers, and how its prompts are encoded. Raises ConfigError, EngineUnavailable, RunStopped."""
    config = share.config
    if config.model.endpoint:
        from trainer.evaluations.endpoint import EndpointEngine, TextChat

        return EndpointEngine(config), TextChat()
    from transformers import AutoTokenizer

    from trainer.rollouts.practice import check_prompts

    as_trained = config.as_train_config()
    chat = Chat(AutoTokenizer.from_pretrained(as_trained.model.path))
    check_prompts(share.tasks, load_prompt(config.rollout.prompt), chat, as_trained)
    return start_engine(as_trained, share.folder, stopping), chat


def evaluated_tasks(wanted: EvalTasksConfig) -> list[Task]:
    """Raises TasksetError, and ConfigError when a named task is not there or nothing is left."""
    taskset = load_taskset(wanted.taskset)
    split = None if wanted.split == "all" else wanted.split
    tasks = taskset.select(split=split, difficulties=tuple(wanted.difficulties))
    if wanted.only:
        names = {f"{taskset.name}/{name}" for name in wanted.only}
        if unknown := names - {task.task_id for task in tasks}:
            missing = ", ".join(sorted(unknown))
            raise ConfigError([("tasks.only", f"{missing}: not of this split and these bands")])
        tasks = [task for task in tasks if task.task_id in names]
    if not tasks:
        message = f"{wanted.split}, {wanted.difficulties}: {taskset.name} has no such task"
        raise ConfigError([("tasks", message)])
    return tasks[: wanted.limit or None]


def places_left(share: Share) -> list[Place]:
    """What has no score yet; every task's first rollout first, so that one that is cut short says most."""
    done = {result.place for result in read_done(share.folder) if result.reward is not None}
    return [
        Place(task, index)
        for index in range(share.config.rollout.group_size)
        for task in share.tasks
        if (task.task_id, index) not in done
    ]


def announce(share: Share, events: EventWriter) -> None:
    """Write `started` or `resumed`. Raises ConfigError when the folder holds something else."""
    earlier = list(read_events_of(share.folder / EVENTS_FILE, ["started", "resumed"]))
    names = [task.task_id for task in share.tasks]
    data = share.config.with_found_model().model_dump(mode="json")
    if earlier:
        first = earlier[0]
        if not isinstance(first, Started) or not began_so(first, share, data):
            message = f"{share.folder}: was begun with another configuration or other tasks; take a new folder"
            raise ConfigError([("file", message)])
        events.write(Resumed(run=share.evaluation, attempt=1 + len(earlier), from_step=0))
        return
    events.write(
        Started(
            run=share.evaluation,
            config=data,
            versions=package_versions(),
            host=describe_host(with_gpus=not share.config.model.endpoint),
            tasks=names,
        )
    )
    k = share.config.rollout.group_size
    text = f"{len(names)} tasks, {k} rollouts each: {len(names) * k} in all"
    events.write(LogLine(level="info", text=text))


def began_so(first: Started, share: Share, config: dict[str, Any]) -> bool:
    """Whether this share was begun with this configuration, and with its tasks unless it may have others."""
    if share.other_tasks:
        any_tasks: dict[str, Any] = {"tasks": {"only": []}}
        return merge(first.config, any_tasks) == merge(config, any_tasks)
    return (first.config, first.tasks) == (config, [task.task_id for task in share.tasks])


def evaluated(share: Share, seconds: float) -> Evaluated:
    """The scores of all that is done, by earlier attempts too. `mean_reward` is pass@1: the mean over tasks."""
    scores = rewards_by_task(read_done(share.folder))
    estimate = pass_at_1(scores)
    return Evaluated(
        step=0,
        policy_version=0,
        num_tasks=len(scores.keys() | {task.task_id for task in share.tasks}),
        group_size=share.config.rollout.group_size,
        mean_reward=estimate.value if estimate else 0.0,
        scores=scores,
        seconds=round(seconds, 3),
    )


def read_done(folder: Path) -> list[Result]:
    return results_of(read_events_of(folder / EVENTS_FILE, RESULT_EVENTS), folder)


def told(scored: Evaluated) -> str:
    """The result in one sentence."""
    wanted = scored.num_tasks * scored.group_size
    num_scored = sum(len(values) for values in scored.scores.values())
    missing = f"; {wanted - num_scored} without a score" if num_scored < wanted else ""
    return f"pass@1 {scored.mean_reward:.1%} over {scored.num_tasks} tasks{missing}"


def identify(eval_dir: Path, given: UUID | None) -> UUID:
    """The evaluation's id, the same for all its shards. Raises ConfigError when the folder has another one."""
    path = eval_dir / ID_FILE
    found = UUID(_noted_once(path, str(given or uuid4())))
    if given and given != found:
        raise ConfigError([("file", f"{path}: is evaluation {found}, not {given}")])
    return found


def with_kept_model(eval_dir: Path, config: EvalConfig) -> EvalConfig:
    """With the model's folder that the evaluation began with, the same for all its shards, whatever a run has saved since.

    A folder that is not of the model that is asked for is left alone: `announce` tells that it is another one.
    """
    if config.model.endpoint:
        return config
    try:
        begun = str(read_header(eval_dir).started.config["model"]["path"])
    except FileNotFoundError:
        begun = model_folder(config.model.path)
    kept = _noted_once(eval_dir / MODEL_FILE, begun)
    if not Path(kept).is_relative_to(config.model.path):
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"path": kept})})


def _noted_once(path: Path, text: str) -> str:
    """What the file says: this text, or what another process wrote before."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    with suppress(FileExistsError):
        os.link(draft, path)  # noqa: PTH200
    draft.unlink()
    return path.read_text()


def only_one(folder: Path) -> AbstractContextManager[Path]:
    """One process at a time writes a shard. Raises ConfigError when another one is at it."""
    return held_alone(folder, LOCK_FILE, "evaluates")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("eval_dir", type=Path, help="folder with evaluation.toml")
    parser.add_argument(
        "--shard", type=_shard, default=Shard(), help="do the tasks of share i of n: i/n"
    )
    parser.add_argument(
        "--evaluation-id", type=UUID, help="id of a new evaluation (default: a random one)"
    )
    return parser.parse_args(argv)


def _shard(text: str) -> Shard:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
