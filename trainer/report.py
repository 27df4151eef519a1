"""`python -m trainer.report EVAL_DIR`: an evaluation's results as files that others read, in EVAL_DIR/report (or --out).

    report.md, .html       rates with intervals, pass@k, best@k, breakdowns, lengths; the page has plots
    results.parquet        one row a rollout
    trajectories.jsonl     R2E-Gym's form
    rollout_0/, ...        SWE-bench's form: predictions.jsonl, reports of instances and run, one folder a rollout a task

May be run while the evaluation goes on: it says what there is. Exit codes: 0 written, 2 there is nothing to report.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.errors import TasksetError
from sandbox.task import Task, load_taskset
from trainer.config import ConfigError
from trainer.evaluations.config import EvalConfig, parse_evaluation
from trainer.evaluations.counts import read_every_count
from trainer.evaluations.methods import methods
from trainer.evaluations.results import Result, read_header, read_results
from trainer.evaluations.scores import read_every_score, worth
from trainer.evaluations.summary import Summary, summarize
from trainer.reports.content import report_of
from trainer.reports.html import html
from trainer.reports.markdown import markdown
from trainer.reports.r2e import write_trajectories
from trainer.reports.swebench import write_run
from trainer.reports.table import write_table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    out = options.out or options.eval_dir / "report"
    try:
        header = read_header(options.eval_dir)
        config = parse_evaluation(header.started.config)
        every = {task.task_id: task for task in load_taskset(config.tasks.taskset).tasks}
        tasks = {name: every[name] for name in header.tasks}
    except (ConfigError, TasksetError, FileNotFoundError, KeyError) as error:
        print(error, file=sys.stderr)
        return 2
    results = read_results(options.eval_dir)
    out.mkdir(parents=True, exist_ok=True)
    scores = read_every_score(options.eval_dir)
    verified = {name: worth(known, results) for name, known in scores.items()}
    counts = read_every_count(options.eval_dir)
    chosen = methods([result.row for result in results], scores, counts)
    content = report_of(config, summary_of(results, tasks), verified, chosen)
    text = markdown(content)
    (out / "report.md").write_text(text)
    (out / "report.html").write_text(html(content))
    write_table(out / "results.parquet", results, tasks)
    write_trajectories(out / "trajectories.jsonl", results, tasks, config)
    write_runs(out, results, tasks, config, run_id=str(header.started.run))
    print(text, end="")
    return 0


def summary_of(results: Sequence[Result], tasks: dict[str, Task]) -> Summary:
    return summarize(
        [result.row for result in results],
        repository_of={name: task.repo_name for name, task in tasks.items()},
        difficulty_of={name: task.difficulty or "" for name, task in tasks.items()},
    )


def write_runs(
    out: Path, results: Sequence[Result], tasks: dict[str, Task], config: EvalConfig, *, run_id: str
) -> None:
    """SWE-bench's files, one run for each rollout of the tasks."""
    for index in sorted({result.index for result in results}):
        chosen = [r for r in results if r.index == index and r.reward is not None]
        model = (
            Path(config.model.path).name if Path(config.model.path).is_dir() else config.model.path
        )
        write_run(out / f"rollout_{index}", chosen, tasks, model=model, run_id=run_id)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("eval_dir", type=Path, help="folder of an evaluation")
    parser.add_argument("--out", type=Path, help="default: EVAL_DIR/report")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
