"""`make bench-sandbox`: episodes a minute, start and exec times of each backend beside SWE-ReX, on this machine.

    python -m benchmarks.sandbox [--episodes N] [--at-once N] [--only PAIR]

Each side runs alone in a process of its own. bubblewrap is compared with SWE-ReX's local deployment, which isolates nothing;
Docker with its Docker deployment, on one engine, the one at DOCKER_HOST; Kubernetes, of which SWE-ReX has none, with that same
Docker deployment. Without KUBECONFIG a node of its own is started on this machine. What is equal and what is not:
docs/benchmarks.md.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.episodes import Measured, percentile
from benchmarks.machine import describe_machine, versions
from sandbox.rootfs import COMPOSED_IMAGE

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
CLUSTER = CHECKOUT / "tests" / "cluster" / "run.py"
LOG_TAIL_BYTES = 3000


class Pair(NamedTuple):
    """A backend of ours and the deployment of SWE-ReX that it is compared with."""

    ours: str
    theirs: str


PAIRS = {
    "bubblewrap": Pair("bubblewrap", "local"),
    "docker": Pair("docker", "docker"),
    "kubernetes": Pair("kubernetes", "docker"),
}
ROWS: dict[str, tuple[Callable[[Measured], float], bool]] = {
    "episodes a minute": (lambda m: m.episodes_per_minute, True),
    "start, p50 s": (lambda m: percentile(m.start_s, 0.50), False),
    "start, p95 s": (lambda m: percentile(m.start_s, 0.95), False),
    "exec, p50 s": (lambda m: percentile(m.exec_s, 0.50), False),
    "exec, p95 s": (lambda m: percentile(m.exec_s, 0.95), False),
}
"""What is compared, and whether more of it is better."""


def main() -> int:
    arguments = parse_arguments()
    if not arguments.rex_python.is_file():
        print(
            f"{arguments.rex_python}: not found; scripts/setup.sh --bench makes it", file=sys.stderr
        )
        return 2
    results = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": versions(Path(sys.executable)) | versions(arguments.rex_python),
        "episodes": arguments.episodes,
        "at_once": arguments.at_once,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"sandbox-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    with tempfile.TemporaryDirectory(prefix="sandbox-times-") as folder:
        for name in arguments.only or PAIRS:
            pair = PAIRS[name]
            ours, theirs = compare(pair, arguments, Path(folder))
            print(f"\n{table(pair, ours, theirs)}", flush=True)
            results[name] = {"ours": figures(ours), f"swe_rex_{pair.theirs}": figures(theirs)}
            path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {path}")
    return 0


def compare(pair: Pair, arguments: argparse.Namespace, folder: Path) -> tuple[Measured, Measured]:
    """Measure both sides. Raises SystemExit with its log's end when one fails."""
    sizes = [str(arguments.episodes), str(arguments.at_once)]
    python = [sys.executable]
    if pair.ours == "kubernetes":
        python = [sys.executable, str(CLUSTER), sys.executable]
    ours = measure(python, "our_episodes", [pair.ours, *sizes], folder)
    theirs = measure(
        [str(arguments.rex_python)], "rex_episodes", [pair.theirs, COMPOSED_IMAGE, *sizes], folder
    )
    return ours, theirs


def measure(python: list[str], module: str, words: list[str], folder: Path) -> Measured:
    """Run one side in a process of its own, unless it has been measured for another pair."""
    out, log = (folder / f"{module}-{words[0]}.{kind}" for kind in ("json", "log"))
    if out.exists():
        return Measured.load(out)
    print(f"{module} {words[0]}: ...", flush=True)
    with log.open("wb") as output:
        done = subprocess.run(
            [*python, "-m", f"benchmarks.{module}", *words, str(out)],
            cwd=CHECKOUT,
            env=os.environ | {"SWE_REX_LOG_STREAM_LEVEL": "ERROR"},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        raise SystemExit(f"{module} ended with {done.returncode}; the end of what it said:\n{tail}")
    return Measured.load(out)


def table(pair: Pair, ours: Measured, theirs: Measured) -> str:
    """Markdown: each figure of both sides, and how many times as good ours is."""
    lines = [
        f"|  | ours: {pair.ours} | SWE-ReX: {pair.theirs} | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for label, (figure, more_is_better) in ROWS.items():
        mine, other = figure(ours), figure(theirs)
        ratio = mine / other if more_is_better else other / mine
        lines.append(f"| {label} | {mine:.3g} | {other:.3g} | {ratio:.1f} |")
    lines.append(f"| episodes that failed | {len(ours.failed)} | {len(theirs.failed)} |  |")
    return "\n".join(lines)


def figures(measured: Measured) -> dict[str, object]:
    """What the results keep of one side."""
    summary = {label: figure(measured) for label, (figure, _) in ROWS.items()}
    return summary | {"grades": measured.grades, "measured": dataclasses.asdict(measured)}


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--episodes", type=int, default=64, help="of each side")
    parser.add_argument("--at-once", type=int, default=64, help="side by side")
    parser.add_argument("--only", action="append", choices=sorted(PAIRS), help="may be repeated")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    environment = Path(f"{sys.prefix}-bench")
    parser.add_argument("--rex-python", type=Path, default=environment / "bin" / "python")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
