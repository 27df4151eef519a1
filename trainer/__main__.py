"""`python -m trainer RUN_DIR`: train what RUN_DIR/config.toml says, or go on with what is there.

Exit codes: 0 finished or stopped, 1 failed (the last event says why), 2 the configuration is wrong; killed by a signal, also
where that befell one of its ranks: to be started again.
SIGTERM or SIGINT stops the run: it saves a checkpoint and ends. Where the configuration asks for more than one rank, this
process launches them (`trainer.nodes.launch`); under torchrun it is one of them.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from trainer.config import CONFIG_FILE, ConfigError, TrainConfig, load_config
from trainer.events import (
    EventWriter,
    Finished,
    LogLine,
    Resumed,
    Started,
    read_events_of,
)
from trainer.nodes.ending import EXIT_RANK_LOST
from trainer.nodes.folder_lock import held_alone
from trainer.nodes.host import describe_host, package_versions
from trainer.nodes.malloc import keep_freed_pages
from trainer.recipes import find_config

if TYPE_CHECKING:
    from trainer.nodes.world import World

log = logging.getLogger("trainer")

LOCK_FILE = "train.lock"


def main() -> int:
    arguments = _arguments()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    place, run_dir = arguments.run_dir, Path(arguments.run_dir)
    try:
        config = find_config(place) if arguments.dry_run else load_config(run_dir / CONFIG_FILE)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.dry_run:
        from trainer.plan import print_plan

        return print_plan(config)
    if "RANK" not in os.environ and config.hardware.ranks > 1:
        from trainer.nodes.launch import Node, launch

        node = Node(arguments.node, arguments.rendezvous)
        return launch(config.hardware, ["-m", "trainer", *sys.argv[1:]], node, run_dir)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keep_freed_pages()
    from trainer.nodes.world import join
    from trainer.training.follow import follow

    with join(os.environ) as world:
        if not world.leads:
            return follow(config, run_dir, world)
        try:
            with held_alone(run_dir, LOCK_FILE, "trains"):
                return run(
                    config,
                    run_dir,
                    arguments.run_id,
                    world,
                    stopping=lambda: stop.is_set() or world.stop_requested(),
                )
        except ConfigError as error:
            # of the lock alone: no event is written, for the file is another process's
            world.fail(str(error))
            print(error, file=sys.stderr)
            return 2


def run(
    config: TrainConfig,
    run_dir: Path,
    run_id: UUID | None,
    world: "World",
    stopping: Callable[[], bool],
) -> int:
    """Train with events; the last event tells how it ended."""
    events = EventWriter(run_dir)
    from trainer.nodes.world import RankLost
    from trainer.stop import RunStopped
    from trainer.train import train
    from trainer.training.checkpoint import list_steps
    from trainer.training.follow import leading

    def newest() -> int:
        return (list_steps(run_dir) or [0])[-1]

    try:
        with leading(world):
            identity = _announce(config, run_id, newest(), events)
            progress = train(config, run_dir, identity, events, stopping, world)
    except RunStopped:
        events.write(Finished(status="stopped", reason="stopped on request", step=newest()))
        return 0
    except RankLost as error:
        events.write(LogLine(level="error", text=str(error)))
        return EXIT_RANK_LOST  # and no last event, as after the death of a single process
    except Exception as error:
        log.exception("the run failed")
        events.write(
            Finished(status="failed", reason=f"{type(error).__name__}: {error}", step=newest())
        )
        return 2 if isinstance(error, ConfigError) else 1
    events.write(
        Finished(status="finished", reason=f"all {progress.step} steps done", step=progress.step)
    )
    return 0


def _announce(
    config: TrainConfig, run_id: UUID | None, last_step: int, events: EventWriter
) -> UUID:
    """Write `started` or `resumed` and return the run's id."""
    earlier = list(read_events_of(events.path, {"started", "resumed"}))
    started = [event for event in earlier if isinstance(event, Started)]
    if started:
        attempt = 2 + sum(isinstance(event, Resumed) for event in earlier)
        events.write(Resumed(run=started[0].run, attempt=attempt, from_step=last_step))
        return started[0].run
    from sandbox.task import load_taskset
    from trainer.rollouts.practice import training_tasks

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
    if last_step:  # copied from another run, or its events are lost
        found = f"checkpoints/step_{last_step} is here without events; goes on from it"
        events.write(LogLine(level="warning", text=found))
        events.write(Resumed(run=identity, attempt=2, from_step=last_step))
    return identity


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
    parser.add_argument(
        "--node", type=int, default=0, help="this machine's number in a run on several (default: 0)"
    )
    parser.add_argument(
        "--rendezvous",
        default="",
        metavar="HOST:PORT",
        help="where node 0 is found by the others, and listens; for a run on several machines",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
