"""`make bench`: seconds of one starter step here and in TRL's GRPOTrainer, on this machine.

    python -m benchmarks.step_time [--smoke] [--ours-only]

Each trainer runs alone in a process of its own, ours first. The table goes to the terminal and,
with the steps, the machine and the versions, to benchmarks/results/. What is equal on both sides
and what is not: docs/benchmarks.md.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.comparison import Summary, ratios, summarise, table
from benchmarks.machine import describe_machine, versions
from benchmarks.measurement import StepTime, Workload, load_steps
from benchmarks.workload import make_workload

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
SMOKE = {"tasks": 2, "group_size": 2, "max_tokens": 16, "warmup": 0, "steps": 1}
LOG_TAIL_BYTES = 3000


def main() -> int:
    arguments = parse_arguments()
    theirs_python = arguments.trl_python
    if not arguments.ours_only and not theirs_python.is_file():
        print(f"{theirs_python}: not found; scripts/setup.sh --bench makes it", file=sys.stderr)
        return 2
    workload = make_workload(
        num_tasks=arguments.tasks, group_size=arguments.group_size, max_tokens=arguments.max_tokens
    )
    with tempfile.TemporaryDirectory(prefix="step-time-") as folder:
        results = compare(workload, arguments, Path(folder))
    print(results["table"])
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"step_time-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {path}")
    return 0


def compare(workload: Workload, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure both sides, or ours alone. Raises SystemExit with its log's end when one fails."""
    workload.save(folder / "workload.json")
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "workload": dataclasses.asdict(workload) | {"prompts": len(workload.prompts)},
    }
    python = Path(sys.executable)
    our_steps = measure("our_steps", python, arguments.warmup + arguments.steps, folder)
    ours = summarise(our_steps, warmup=arguments.warmup)
    results["ours"] = side(our_steps, ours, python, arguments.warmup)
    if arguments.ours_only:
        return results | {"table": table(ours, ours, "ours again")}
    their_steps = measure(
        "trl_steps", arguments.trl_python, arguments.trl_warmup + arguments.trl_steps, folder
    )
    theirs = summarise(their_steps, warmup=arguments.trl_warmup)
    results["trl"] = side(their_steps, theirs, arguments.trl_python, arguments.trl_warmup)
    name = f"TRL {results['trl']['versions']['trl']}"
    return results | {
        "ratios": ratios(ours.seconds, theirs.seconds),
        "ratios_per_token": ratios(ours.milliseconds_per_token, theirs.milliseconds_per_token),
        "table": table(ours, theirs, name),
    }


def measure(module: str, python: Path, num_steps: int, folder: Path) -> list[StepTime]:
    """Run one side in a process of its own."""
    print(f"{module}: {num_steps} step(s) ...", flush=True)
    began = time.monotonic()
    out, log = folder / module / "steps.json", folder / f"{module}.log"
    out.parent.mkdir()
    workload = str(folder / "workload.json")
    command = [str(python), "-m", f"benchmarks.{module}", workload, str(num_steps), str(out)]
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        raise SystemExit(f"{module} ended with {done.returncode}; the end of what it said:\n{tail}")
    print(f"{module}: ended after {time.monotonic() - began:.0f} s", flush=True)
    return load_steps(out)


def side(steps: list[StepTime], summary: Summary, python: Path, warmup: int) -> dict[str, Any]:
    """What the results keep of one trainer."""
    return {
        "versions": versions(python),
        "warmup": warmup,
        "steps": [dataclasses.asdict(step) for step in steps],
        "mean": dataclasses.asdict(summary),
    }


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The options; `--smoke` replaces the sizes that were not given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_time", description=__doc__)
    parser.add_argument("--tasks", type=int, default=8, help="groups in a step")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument(
        "--max-tokens", type=int, default=0, help="of a completion; 0: the recipe's"
    )
    parser.add_argument("--warmup", type=int, default=1, help="our steps before those that count")
    parser.add_argument("--steps", type=int, default=2, help="our steps that count")
    parser.add_argument(
        "--trl-warmup", type=int, default=0, help="TRL's steps before those that count"
    )
    parser.add_argument("--trl-steps", type=int, default=1, help="TRL's steps that count")
    parser.add_argument("--smoke", action="store_true", help="a tiny step, to see that it works")
    parser.add_argument("--ours-only", action="store_true", help="leave TRL out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    environment = Path(f"{sys.prefix}-bench")
    parser.add_argument("--trl-python", type=Path, default=environment / "bin" / "python")
    if "--smoke" in (sys.argv[1:] if words is None else words):
        parser.set_defaults(**SMOKE)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
