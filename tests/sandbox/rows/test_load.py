"""`python -m sandbox.load`: rows from each kind of source into a taskset folder that `load_taskset` reads."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sandbox.events import EventWriter, Progress, RowRejected, Started, read_events
from sandbox.load import main
from sandbox.rows.sources import read_source
from sandbox.task import TasksetError, load_taskset
from tests.sandbox.rows.test_readers import r2e_row, swebench_row, swesmith_row


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def parquet(path: Path, *rows: dict[str, Any]) -> str:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return str(path)


def events_of(folder: Path) -> list[Any]:
    return [event for _, event in read_events(folder / "events.jsonl")]


@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize("row", [r2e_row, swebench_row, swesmith_row])
def test_rows_of_each_schema_become_a_taskset(tmp_path: Path, write: Any, row: Any) -> None:
    source = write(tmp_path / f"rows.{write.__name__}", row())
    folder = tmp_path / "mine"
    assert main([source, "--name", "mine", str(folder)]) == 0
    taskset = load_taskset(str(folder))
    assert (taskset.name, len(taskset)) == ("mine", 1)
    assert taskset.tasks[0].grading == row.__name__.removesuffix("_row")
    assert taskset.tasks[0].gold_patch.startswith("diff --git a/till.py b/till.py\n")
    events = events_of(folder)
    assert [event.type for event in events] == ["started", "progress", "finished"]
    assert [event.seq for event in events] == [1, 2, 3]


def test_faulty_rows_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [r2e_row(), r2e_row(commit_hash="c" * 40, docker_image=""), r2e_row()]
    folder = tmp_path / "mine"
    assert main([jsonl(tmp_path / "rows.jsonl", *rows), "--name", "mine", str(folder)]) == 1
    assert len(load_taskset(str(folder))) == 1
    refused = [event for event in events_of(folder) if isinstance(event, RowRejected)]
    assert [(event.row, event.field) for event in refused] == [(2, "docker_image"), (3, "task_id")]
    assert "is row 1's" in refused[1].remedy
    said = capsys.readouterr()
    assert "row 2: docker_image='': needs a text that is not empty" in said.err
    assert said.out.endswith("mine: 1 tasks, 2 rows left out.\n")


def test_a_line_that_is_no_row_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [json.dumps(r2e_row(commit_hash=letter * 40)).encode() for letter in "cd"]
    faulty = [b'{"repo_name": ', b"[]", b'{"repo_name": "caf\xe9"}', b"[" * 100_000, b"9" * 5000]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"\n".join([rows[0], b"", *faulty, b"  \r", rows[1]]))
    folder = tmp_path / "mine"
    assert main([str(source), "--name", "mine", str(folder)]) == 1
    assert len(load_taskset(str(folder))) == 2
    refused = [event for event in events_of(folder) if isinstance(event, RowRejected)]
    assert [(event.row, event.field) for event in refused] == [(n, "line") for n in range(2, 7)]
    assert "is not JSON" in refused[0].remedy
    assert refused[1].remedy == "needs one JSON object a line"
    assert "utf-8" in refused[2].remedy
    assert events_of(folder)[-1].status == "finished"


def test_a_row_that_breaks_the_reader_ends_with_2_and_a_last_event(tmp_path: Path) -> None:
    broken = r2e_row(execution_result_content=json.dumps({"test_file_names": 1}))
    source = jsonl(tmp_path / "rows.jsonl", broken)
    assert main([source, "--name", "mine", str(tmp_path / "mine")]) == 2
    last = events_of(tmp_path / "mine")[-1]
    assert (last.type, last.status) == ("finished", "failed")
    assert last.reason.startswith("TypeError")


def test_nothing_but_faulty_rows_is_no_taskset(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "rows.jsonl", r2e_row(expected_output_json="{}"))
    assert main([source, "--name", "mine", str(tmp_path / "mine")]) == 2
    assert events_of(tmp_path / "mine")[-1].status == "failed"
    with pytest.raises(TasksetError, match="taskset.toml not found"):
        load_taskset(str(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.jsonl", "no such file"),
        ("rows.csv", "needs a .jsonl or .parquet file, or a dataset's name"),
        ("torn.parquet", "not readable as Parquet"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TasksetError, match=said):
        list(read_source(str(tmp_path / source)))


def test_a_hub_that_cannot_be_reached_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TasksetError, match="source 'nobody/no-rows', split 'train': .*Parquet"):
        list(read_source("nobody/no-rows"))


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    rows = [swebench_row(instance_id=f"shop__till-{number}") for number in range(5)]
    source = parquet(tmp_path / "rows.parquet", *rows)
    assert main([source, "--name", "mine", "--limit", "2", str(tmp_path / "mine")]) == 0
    tasks = load_taskset(str(tmp_path / "mine")).tasks
    assert [task.task_id for task in tasks] == ["mine/shop__till-0", "mine/shop__till-1"]


def test_a_torn_line_of_a_tasks_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "rows.jsonl", r2e_row())
    main([source, "--name", "mine", str(tmp_path / "mine")])
    path = tmp_path / "mine" / "tasks.jsonl"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(TasksetError, match=r"tasks.jsonl: line 1: .*load the taskset again"):
        load_taskset(str(tmp_path / "mine"))


def test_events_go_on_after_a_torn_line(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.write(Started(process="load", source="a", total=None))
    writer.close()
    with writer.path.open("ab") as file:
        file.write(b'{"seq": 2, "ty')
    again = EventWriter(tmp_path)
    again.write(Progress(done=1, total=1, sentence="One."))
    again.close()
    assert [event.seq for event in events_of(tmp_path)] == [1, 2]
