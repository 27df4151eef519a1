"""`python -m sandbox.load SOURCE --name N DIR`: a taskset folder from rows of R2E-Gym, SWE-bench or SWE-smith.

Rows that are no tasks are left out, each with row, field, value and remedy, printed and in
`DIR/events.jsonl`. Nothing is run and no image is fetched here; whether the tasks are fit to train on
is for `sandbox.validate`. Exit code 0: every row is a task; 1: some were left out; 2: no taskset.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from sandbox.errors import TasksetError
from sandbox.events import EventWriter, Finished, Progress, RowRejected, Started
from sandbox.rows import READERS, detect_schema, read_row
from sandbox.rows.fields import RowError
from sandbox.rows.sources import read_source
from sandbox.task import TASKS_FILE, Task

_PROGRESS_ROWS = 100


class Load:
    """One load: rows in, tasks out, events beside them."""

    def __init__(self, source: str, name: str, folder: Path, *, events: EventWriter) -> None:
        self.source, self.name, self.folder, self.events = source, name, folder, events
        self.num_tasks = self.num_rejected = 0
        self._known: dict[str, int] = {}

    def run(self, *, schema: str | None, split: str, limit: int | None) -> None:
        """Write the taskset. Raises TasksetError when there is none to write."""
        self.events.write(Started(process="load", source=self.source, total=limit))
        draft = self.folder / f".{TASKS_FILE}"
        with draft.open("w", encoding="utf-8") as lines:
            for task in self._tasks(schema, split, limit):
                lines.write(task.model_dump_json(exclude_defaults=True) + "\n")
                self.num_tasks += 1
        if not self.num_tasks:
            draft.unlink()
            raise TasksetError(
                f"source {self.source!r}: none of {self.num_rejected} rows is a task"
            )
        draft.rename(self.folder / TASKS_FILE)
        self._write_manifest()

    def _tasks(self, schema: str | None, split: str, limit: int | None) -> Iterator[Task]:
        rows = islice(read_source(self.source, split=split), limit)
        number = 0
        for number, values in enumerate(rows, start=1):
            try:
                if isinstance(values, RowError):
                    raise values
                schema = schema or detect_schema(values)
                task = read_row(schema, number, values, self.name)
                self._take(task, number)
            except RowError as error:
                self._reject(error)
            else:
                yield task
            if number % _PROGRESS_ROWS == 0:
                self._progress(number, limit)
        self._progress(number, number)

    def _take(self, task: Task, number: int) -> None:
        if task.task_id in self._known:
            first = self._known[task.task_id]
            raise RowError(number, "task_id", task.task_id, f"is row {first}'s: leave one out")
        self._known[task.task_id] = number

    def _reject(self, error: RowError) -> None:
        self.num_rejected += 1
        print(error, file=sys.stderr)
        self.events.write(
            RowRejected(row=error.row, field=error.field, value=error.value, remedy=error.remedy)
        )

    def _progress(self, done: int, total: int | None) -> None:
        sentence = f"{done} rows read, {self.num_rejected} left out."
        print(sentence, flush=True)
        self.events.write(Progress(done=done, total=total, sentence=sentence))

    def _write_manifest(self) -> None:
        rows = {"name": self.name, "description": f"{self.num_tasks} tasks from {self.source}."}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())
        (self.folder / "taskset.toml").write_text(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    with closing(EventWriter(options.folder)) as events:
        load = Load(options.source, options.name, options.folder, events=events)
        try:
            load.run(schema=options.schema, split=options.split, limit=options.limit)
        except TasksetError as error:
            events.write(Finished(status="failed", reason=str(error)))
            print(error, file=sys.stderr)
            return 2
        except Exception as error:
            events.write(Finished(status="failed", reason=f"{type(error).__name__}: {error}"))
            traceback.print_exc()
            return 2
        done = f"{options.name}: {load.num_tasks} tasks, {load.num_rejected} rows left out."
        events.write(Finished(status="finished", reason=done))
    print(done)
    return 1 if load.num_rejected else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.load", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", help="a .jsonl or .parquet file, or a hub dataset OWNER/NAME")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the taskset folder to write")
    parser.add_argument("--name", required=True, help="the taskset's name")
    parser.add_argument("--schema", choices=sorted(READERS), help="default: by the columns")
    parser.add_argument("--split", default="train", help="of a hub dataset; default: train")
    parser.add_argument("--limit", type=int, help="take this many rows at most")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
