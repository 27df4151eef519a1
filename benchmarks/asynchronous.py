"""How much a run gains when the next step's rollouts go on during an update, and how busy the engine is.

    python -m benchmarks.asynchronous [--clock FACTOR] [--steps N]

A hundred multi-turn rollouts at once, by the real collector, scheduler and HTTP client, against stand-ins with the latencies
of a real run (`benchmarks.recorded_engine`, `benchmarks.recorded_sandbox`) on a faster clock. An update is a pause as long as
the rollouts of a batch take, measured first; weights change hands over the engine's HTTP routes. Results go to the terminal
and to benchmarks/results/. That an engine and an update on the same cores slow each other down is not in it.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
from transformers import AutoTokenizer

from benchmarks.machine import describe_machine
from benchmarks.recorded_engine import RecordedTurn, load_record
from benchmarks.recorded_sandbox import RecordedBackend
from sandbox.pool import Pool
from sandbox.task import load_taskset
from trainer.config import TrainConfig
from trainer.engines.chat import Chat, load_prompt
from trainer.engines.vllm_engine import VllmEngine
from trainer.events import EVENTS_FILE, EventWriter, Started, TurnEnded, read_events
from trainer.recipes import load_recipe
from trainer.rollouts.collect import Collector
from trainer.rollouts.practice import training_tasks
from trainer.rollouts.staleness import Ahead, staleness_metrics
from trainer.rollouts.task_stream import TaskStream

RESULTS = Path(__file__).parent / "results"
RECORD = RESULTS / "turn_latencies.json"
CONCURRENCY = 100


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of so many steps."""

    max_staleness: int
    update_s: float
    seconds: float
    batch_s: float
    """From the beginning of a batch to its last grade, mean over the steps."""
    busy: float
    """Share of the time, from the first rollout's beginning to the last one's grade, in which the engine held a request."""
    most_in_flight: int
    answered_during_updates: int
    """Requests."""
    oldest: int
    """Staleness of the oldest token that was trained on, in policy versions."""


def make_config(
    *, num_steps: int, max_staleness: int, concurrency: int, model: str | None = None
) -> TrainConfig:
    """The starter recipe with ten groups of ten, as far as scheduling goes."""
    overrides = {
        "num_steps": num_steps,
        "tasks": {"tasks_per_step": 10},
        "rollout": {
            "group_size": concurrency // 10,
            "concurrency": concurrency,
            "max_staleness": max_staleness,
            "max_turns": 50,
            "max_response_tokens": 7000,
        },
        "engine": {"max_model_len": 8192},
        "sandbox": {"concurrency": concurrency},
    }
    return load_recipe("starter-cpu", overrides | ({"model": {"path": model}} if model else {}))


def measure(config: TrainConfig, record: Path, clock: float, update_s: float) -> Measured:
    """Take every step of `config`; an update is `update_s` seconds of nothing."""

    def command(_: TrainConfig, port: int) -> list[str]:
        module = [sys.executable, "-m", "benchmarks.recorded_engine"]
        return [*module, "--port", str(port), "--record", str(record), "--clock", str(clock)]

    tools = [turn.tool_s * clock for rollout in load_record(record) for turn in rollout]
    with (
        tempfile.TemporaryDirectory(prefix="asynchronous-") as folder,
        patch("trainer.engines.vllm_engine._command", command),
        closing(VllmEngine(config, Path(folder) / "engine.log")) as engine,
        closing(EventWriter(Path(folder))) as events,
    ):
        collector = Collector(
            run=UUID(int=0),
            run_dir=Path(folder),
            config=config,
            engine=engine,
            chat=Chat(AutoTokenizer.from_pretrained(config.model.path)),
            prompt=load_prompt(config.rollout.prompt),
            backend=Pool(RecordedBackend(tools), max_operations=config.sandbox.concurrency),
            events=events,
            stopping=lambda: False,
        )
        with closing(collector):
            return _take_steps(config, collector, engine, update_s)


def _take_steps(
    config: TrainConfig, collector: Collector, engine: VllmEngine, update_s: float
) -> Measured:
    tasks = training_tasks(load_taskset(config.tasks.taskset), config)[:10]

    group_size = config.rollout.group_size
    ahead = Ahead(
        TaskStream(pool=tasks, config=config, history={}),
        partial(collector.begin, purpose="train", group_size=group_size),
        step=0,
        drawn=(),
        num_steps=config.num_steps,
        max_staleness=config.rollout.max_staleness,
    )
    batch_s, oldest, began = [], 0.0, time.monotonic()
    answered = 0
    for step in range(1, config.num_steps + 1):
        collection = ahead.take(step)
        groups = collector.finish(collection)
        sampling_s = time.monotonic() - began
        batch_s.append(collection.seconds)
        oldest = max(oldest, staleness_metrics(groups, step - 1)["staleness/max"][0])
        use = _use(engine)
        with collector.tending():
            time.sleep(update_s)
        answered += _use(engine)["answered"] - use["answered"]
        engine.load_weights(Path("unread"), step)
    return Measured(
        max_staleness=config.rollout.max_staleness,
        update_s=update_s,
        seconds=time.monotonic() - began,
        batch_s=fmean(batch_s),
        busy=use["busy_s"] / sampling_s,
        most_in_flight=use["most"],
        answered_during_updates=answered,
        oldest=round(oldest),
    )


def _use(engine: VllmEngine) -> dict[str, Any]:
    use: dict[str, Any] = httpx.get(f"{engine.url}/recorded/use").json()
    return use


def record_of(run_dir: Path) -> dict[str, object]:
    """What `RECORD` holds, from a run's events: [generate_s, tool_s] of every turn of every rollout that had one."""
    turns: dict[UUID, list[RecordedTurn]] = {}
    source: dict[str, object] = {}
    for _, event in read_events(run_dir / EVENTS_FILE):
        if isinstance(event, Started):
            source = {"recipe": event.config["recipe"], "versions": event.versions}
            source["concurrency"] = event.config["rollout"]["concurrency"]
        elif isinstance(event, TurnEnded):
            timed = RecordedTurn(event.turn.generate_s, event.turn.tool_s)
            turns.setdefault(event.rollout, []).append(timed)
    return {"source": source, "rollouts": list(turns.values())}


def main() -> int:
    arguments = _arguments()
    if arguments.record_from:
        RECORD.write_text(json.dumps(record_of(arguments.record_from)) + "\n")
        return 0

    def run(max_staleness: int, num_steps: int, update_s: float) -> Measured:
        config = make_config(
            num_steps=num_steps, max_staleness=max_staleness, concurrency=CONCURRENCY
        )
        return measure(config, RECORD, arguments.clock, update_s)

    update_s = run(0, 3, 0.0).batch_s
    measured = [run(staleness, arguments.steps, update_s) for staleness in (0, 1, 2)]
    print(table(measured))
    path = RESULTS / f"asynchronous-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    results = {
        "machine": describe_machine(),
        "clock": arguments.clock,
        "steps": arguments.steps,
        "runs": [dataclasses.asdict(run) for run in measured],
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {path}")
    return 0


def table(measured: list[Measured]) -> str:
    """Markdown; the first run is what the others are compared with."""
    head = "max_staleness | s | batch s | update s | throughput | engine busy | in flight | oldest token"
    rows = [head, " | ".join(["---:"] * 8)]
    rows += [
        f"{m.max_staleness} | {m.seconds:.1f} | {m.batch_s:.2f} | {m.update_s:.2f} | "
        f"{measured[0].seconds / m.seconds:.2f} x | {m.busy:.0%} | {m.most_in_flight} | {m.oldest}"
        for m in measured
    ]
    return "\n".join(f"| {row} |" for row in rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clock", type=float, default=0.025, help="seconds here to a recorded one")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--record-from", type=Path, metavar="RUN_DIR", help="write the record from a run's events"
    )
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
