"""The events file: gapless, mended after a crash, read back as it was written."""

import resource
import threading
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from sandbox.trajectory import Action, Turn
from trainer.events import (
    Alarm,
    AnyEvent,
    CheckpointSaved,
    Evaluated,
    Event,
    EventWriter,
    Finished,
    GroupScored,
    LogLine,
    PhaseEnded,
    Regraded,
    Resumed,
    RolloutFinished,
    RolloutStarted,
    Started,
    StepEnded,
    TasksResting,
    TurnEnded,
    parse_event,
    read_events,
)

RUN, GROUP, ROLLOUT = UUID(int=1), UUID(int=2), UUID(int=3)
ONE_OF_EACH: list[Event] = [
    Started(run=RUN, config={"seed": 0}, versions={"torch": "2"}, host={"cores": 2}, tasks=["a/b"]),
    Resumed(run=RUN, attempt=2, from_step=4),
    PhaseEnded(step=1, phase="rollout", seconds=1.5),
    RolloutStarted(
        rollout=ROLLOUT,
        group=GROUP,
        index=0,
        task="a/b",
        step=1,
        purpose="train",
        policy_version=0,
        prompt="line\u2028two\n",
    ),
    TurnEnded(rollout=ROLLOUT, turn=Turn(index=0, text="\x00é", action=Action(tool="finish"))),
    RolloutFinished(
        rollout=ROLLOUT,
        group=GROUP,
        task="a/b",
        step=1,
        purpose="train",
        outcome="infra",
        termination_reason="infra",
        flags=["tampered"],
        reward=None,
        num_turns=1,
        num_prompt_tokens=2,
        num_sampled_tokens=3,
        num_response_tokens=4,
        tests={"t": "PASSED"},
        patch="",
        files={"tokens": "x.npz"},
        seconds=1.0,
        grade_s=0.5,
        reason="no engine",
    ),
    Regraded(
        rollout=ROLLOUT,
        outcome="task",
        reward=1.0,
        flags=[],
        tests={"test_a": "PASSED"},
        files={"test_log": "rollouts/a.log"},
        grade_s=0.5,
        reason="All 1 tests as expected.",
    ),
    GroupScored(
        group=GROUP,
        task="a/b",
        step=1,
        rollouts=[ROLLOUT],
        advantages=[1 / 3],
        filtered=[True],
        trained=False,
    ),
    StepEnded(step=1, policy_version=1, updated=True, seconds=2.0, metrics={"loss": (0.1, 1.0)}),
    Evaluated(
        step=0,
        policy_version=0,
        num_tasks=1,
        group_size=2,
        mean_reward=0.5,
        scores={"a/b": [0.0, 1.0]},
        seconds=3.0,
    ),
    CheckpointSaved(step=1, path="checkpoints/step_1", size_mib=1.5),
    Alarm(step=1, rule="stall", sentence="Nothing came.", remedy="Look."),
    TasksResting(step=1, tasks={"starter/one": 0.0}),
    LogLine(level="info", text="hello"),
    Finished(status="stopped", reason="asked", step=1),
]


def test_there_is_an_example_of_every_event() -> None:
    union = AnyEvent.__origin__.__args__  # type: ignore[attr-defined]
    assert {type(event) for event in ONE_OF_EACH} == set(union)


def test_every_event_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    _write(tmp_path, ONE_OF_EACH)
    read = [event for _, event in read_events(tmp_path / "events.jsonl")]
    assert [e.seq for e in read] == list(range(1, len(ONE_OF_EACH) + 1))
    unstamped = [e.model_copy(update={"seq": 0, "time": ONE_OF_EACH[0].time}) for e in read]
    assert unstamped == ONE_OF_EACH


def test_seq_goes_on_without_a_gap_when_a_run_resumes(tmp_path: Path) -> None:
    _write(tmp_path, ONE_OF_EACH[:3])
    _write(tmp_path, ONE_OF_EACH[:2])
    assert _seqs(tmp_path) == [1, 2, 3, 4, 5]


def test_a_torn_last_line_is_removed_and_nothing_else(tmp_path: Path) -> None:
    _write(tmp_path, ONE_OF_EACH[:3])
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":4,"type":"lo')
    assert _seqs(tmp_path) == [1, 2, 3]
    events = EventWriter(tmp_path)
    assert path.read_bytes() == whole
    assert events.write(LogLine(level="info", text="on we go")) == 4
    events.close()


def test_a_file_that_is_only_a_torn_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"seq":1,"ty')
    _write(tmp_path, ONE_OF_EACH[:1])
    assert _seqs(tmp_path) == [1]


def test_a_disk_that_fills_up_leaves_whole_lines_and_no_gap(tmp_path: Path) -> None:
    """A limit on the size of files makes the kernel take a part of a line and refuse the rest, as a full disk does."""
    events = EventWriter(tmp_path)
    events.write(LogLine(level="info", text="before"))
    whole = events.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            events.write(LogLine(level="info", text="x" * 2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert events.path.read_bytes() == whole
    assert events.write(LogLine(level="info", text="after")) == 2
    events.close()
    assert _seqs(tmp_path) == [1, 2]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    _write(tmp_path, ONE_OF_EACH[:2])
    *_, (offset, _) = read_events(tmp_path / "events.jsonl")
    _write(tmp_path, ONE_OF_EACH[2:4])
    assert [e.seq for _, e in read_events(tmp_path / "events.jsonl", offset)] == [3, 4]


def test_threads_share_one_writer_without_gap_or_double(tmp_path: Path) -> None:
    events = EventWriter(tmp_path)
    lines = [LogLine(level="info", text="x" * 5000)] * 50
    threads = [
        threading.Thread(target=lambda: [events.write(line) for line in lines]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events.close()
    assert _seqs(tmp_path) == list(range(1, 201))


@pytest.mark.parametrize(
    "line",
    ['{"type":"unheard","seq":1}', '{"type":"log","seq":1,"level":"info","text":"","more":1}', "{"],
)
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValidationError):
        parse_event(line)


def _write(run_dir: Path, chosen: list[Event]) -> None:
    events = EventWriter(run_dir)
    for event in chosen:
        events.write(event)
    events.sync()
    events.close()


def _seqs(run_dir: Path) -> list[int]:
    return [event.seq for _, event in read_events(run_dir / "events.jsonl")]
