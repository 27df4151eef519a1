"""`python -m trainer RUN_DIR`: train what RUN_DIR/config.toml says, or go on with what is there.

Exit codes: 0 finished or stopped, 1 failed (the last event says why), 2 the configuration is wrong.
SIGTERM or SIGINT stops the run: it saves a checkpoint and ends.
"""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from uuid import UUID, uuid4

from trainer.config import CONFIG_FILE, ConfigError, TrainConfig, load_config
from trainer.events import (
    EVENTS_FILE,
    AnyEvent,
    EventWriter,
    Finished,
    LogLine,
    Resumed,
    Started,
    read_events,
)
from trainer.host import describe_host, package_versions
from trainer.malloc import keep_freed_pages
from trainer.recipes import load_recipe, recipe_names

log = logging.getLogger("trainer")


def main() -> int:
    arguments = _arguments()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        config = _config(arguments.run_dir)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.dry_run:
        from trainer.plan import print_plan

        return print_plan(config)
    return run(config, Path(arguments.run_dir), arguments.run_id)


def run(config: TrainConfig, run_dir: Path, run_id: UUID | None) -> int:
    """Train with events; the last event tells how it ended."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keep_freed_pages()
    earlier = (
        [event for _, event in read_events(run_dir / EVENTS_FILE)]
        if (run_dir / EVENTS_FILE).exists()
        else []
    )
    events = EventWriter(run_dir)
    from trainer.checkpoint import list_steps
    from trainer.stop import RunStopped
    from trainer.train import train

    last_step = (list_steps(run_dir) or [0])[-1]
    try:
        identity = _announce(config, run_id, earlier, last_step, events)
        progress = train(config, run_dir, identity, events, stop.is_set)
    except RunStopped:
        step = (list_steps(run_dir) or [0])[-1]
        events.write(Finished(status="stopped", reason="stopped on request", step=step))
        return 0
    except Exception as error:
        log.exception("the run failed")
        events.write(
            Finished(status="failed", reason=f"{type(error).__name__}: {error}", step=last_step)
        )
        return 2 if isinstance(error, ConfigError) else 1
    events.write(
        Finished(status="finished", reason=f"all {progress.step} steps done", step=progress.step)
    )
    return 0


def _announce(
    config: TrainConfig,
    run_id: UUID | None,
    earlier: list[AnyEvent],
    last_step: int,
    events: EventWriter,
) -> UUID:
    """Write `started` or `resumed` and return the run's id."""
    started = [event for event in earlier if isinstance(event, Started)]
    if started:
        attempt = 2 + sum(isinstance(event, Resumed) for event in earlier)
        events.write(Resumed(run=started[0].run, attempt=attempt, from_step=last_step))
        return started[0].run
    from sandbox.task import load_taskset
    from trainer.train import training_tasks

    identity = run_id or uuid4()
    tasks = [task.task_id for task in training_tasks(load_taskset(config.tasks.taskset), config)]
    events.write(
        Started(
            run=identity,
            config=config.model_dump(mode="json"),
            versions=package_versions(),
            host=describe_host(),
            tasks=tasks,
        )
    )
    events.write(LogLine(level="info", text=f"recipe {config.recipe}: {len(tasks)} training tasks"))
    return identity


def _config(run_dir_or_recipe: str) -> TrainConfig:
    """From RUN_DIR/config.toml; with --dry-run a recipe's name will do."""
    path = Path(run_dir_or_recipe)
    if not path.is_dir() and run_dir_or_recipe in recipe_names():
        return load_recipe(run_dir_or_recipe)
    return load_config(path / CONFIG_FILE if path.is_dir() else path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    parser.add_argument(
        "run_dir",
        help=f"folder with {CONFIG_FILE}; with --dry-run also a TOML file or a recipe's name",
    )
    parser.add_argument("--run-id", type=UUID, help="id of a new run (default: a random one)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan, what it needs and what is missing"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
