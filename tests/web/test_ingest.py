"""From the event file to rows: each event once, torn lines, resumption, replay, hostile text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import models

from tests.web.recorded_trainer import group, metrics
from tests.web.recorded_trainer import record as events_of
from trainer.config import TrainConfig
from trainer.events import (
    Alarm,
    CheckpointSaved,
    EventWriter,
    PhaseEnded,
    Resumed,
    Started,
    StepEnded,
    TasksResting,
    read_events,
)
from webapp.rollouts.models import Group, Rollout, Turn
from webapp.runs import feed
from webapp.runs import ingest as module
from webapp.runs.ingest import IngestError, ingest
from webapp.runs.models import Event, Run, RunEvaluation, Step

Record = Callable[..., Path]


def rows(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Every derived row of a run, without the numbers that a database makes."""
    by_rollout = {"rollout__run": run}
    kinds: dict[str, models.QuerySet[Any]] = {
        "events": Event.objects.filter(run=run).order_by("seq"),
        "steps": Step.objects.filter(run=run).order_by("step", "attempt"),
        "evaluations": RunEvaluation.objects.filter(run=run).order_by("step", "attempt"),
        "groups": Group.objects.filter(run=run).order_by("id"),
        "rollouts": Rollout.objects.filter(run=run).order_by("id"),
        "turns": Turn.objects.filter(**by_rollout).order_by("rollout_id", "index"),
    }
    found = {kind: list(queryset.values()) for kind, queryset in kinds.items()}
    for kind in ("events", "steps", "evaluations", "turns"):
        for row in found[kind]:
            del row["id"]
    fields = ("status", "reason", "attempt", "current_step", "started_at", "finished_at")
    fields += ("alarms", "resting")
    found["run"] = list(Run.objects.filter(id=run.id).values(*fields, "last_seq", "ingest_offset"))
    return found


def test_a_whole_run_becomes_rows(run: Run, record: Record) -> None:
    run_dir = record(run.id)
    count = ingest(run.id, run_dir)
    run.refresh_from_db()
    assert count == run.last_seq == Event.objects.filter(run=run).count()
    assert run.ingest_offset == (run_dir / "events.jsonl").stat().st_size
    assert (run.current_step, run.attempt) == (2, 1)
    assert [step.phases for step in run.steps.all()] == [
        {"rollout": 2.0, "update": 1.0, "checkpoint": 0.5},
        {"rollout": 2.0, "update": 1.0, "checkpoint": 0.5, "evaluate": 2.5},
    ]
    assert run.steps.get(step=1).metric("reward/mean") == 0.25
    assert run.rollouts.filter(purpose="train").count() == 16
    assert run.rollouts.filter(purpose="evaluation").count() == 8
    assert not run.rollouts.in_flight().exists()
    assert run.evaluations.count() == 2
    solved = run.rollouts.filter(reward=1, purpose="train").first()
    assert solved
    assert solved.group.prompt == f"Fix {solved.task}."
    assert solved.advantage is not None
    assert solved.tests == {"test_total": "PASSED"}
    assert [turn.tool for turn in solved.turns.all()] == ["execute_bash", "finish"]


def test_reading_again_changes_nothing(run: Run, record: Record) -> None:
    run_dir = record(run.id)
    ingest(run.id, run_dir)
    before = rows(run)
    assert ingest(run.id, run_dir) == 0
    assert rows(run) == before


def test_line_by_line_gives_the_same_rows_as_at_once(run: Run, record: Record) -> None:
    run_dir = record(run.id)
    lines = (run_dir / "events.jsonl").read_bytes().splitlines(keepends=True)
    (run_dir / "events.jsonl").write_bytes(b"")
    for line in lines:
        with (run_dir / "events.jsonl").open("ab") as file:
            file.write(line)
        assert ingest(run.id, run_dir) == 1
    slowly = rows(run)
    call_command("replay_run", run_dir)
    at_once = rows(run)
    assert slowly["rollouts"] == at_once["rollouts"]
    assert {**slowly, "run": 0} == {**at_once, "run": 0}


def test_a_torn_line_waits_for_its_end(run: Run, record: Record) -> None:
    path = record(run.id) / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    ingest(run.id, path.parent)
    run.refresh_from_db()
    last = run.last_seq
    assert run.ingest_offset == whole[:-1].rindex(b"\n") + 1
    path.write_bytes(whole)
    assert ingest(run.id, path.parent) == 1
    run.refresh_from_db()
    assert run.last_seq == last + 1


def test_no_file_yet_is_no_event(run: Run, tmp_path: Path) -> None:
    assert ingest(run.id, tmp_path) == 0


def test_a_second_reader_stores_nothing_twice(
    run: Run, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = record(run.id)
    read = module.next_events

    def read_and_be_overtaken(path: Path, offset: int, last_seq: int) -> object:
        batch = read(path, offset, last_seq)
        monkeypatch.setattr(module, "next_events", read)
        ingest(run.id, run_dir)
        return batch

    monkeypatch.setattr(module, "next_events", read_and_be_overtaken)
    assert ingest(run.id, run_dir) == 0
    run.refresh_from_db()
    assert Event.objects.filter(run=run).count() == run.last_seq


def test_a_gap_is_refused(run: Run, record: Record) -> None:
    path = record(run.id) / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    with pytest.raises(IngestError, match="seq 5 where 4 should be"):
        ingest(run.id, path.parent)
    assert not Event.objects.filter(run=run).exists()


def test_a_line_that_is_no_event_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"seq": 1, "type": "guess"}\n')
    with pytest.raises(IngestError, match="guess"):
        ingest(run.id, tmp_path)


def test_a_nul_in_what_an_agent_wrote_is_stored_as_its_picture(run: Run, record: Record) -> None:
    ingest(run.id, record(run.id))
    turn = Turn.objects.filter(rollout__run=run, index=0).first()
    assert turn
    assert turn.observation.endswith("\N{SYMBOL FOR NULL}")


def test_files_go_to_the_storage_and_missing_ones_are_left_out(run: Run, record: Record) -> None:
    run_dir = record(run.id)
    missing, *_ = sorted((run_dir / "rollouts").iterdir())
    missing.unlink()
    ingest(run.id, run_dir)
    for rollout in run.rollouts.all():
        name = f"runs/{run.id}/rollouts/{rollout.id}.log"
        if str(rollout.id) == missing.stem:
            assert rollout.files == {}
            continue
        assert rollout.files == {"test_log": name}
        with default_storage.open(name) as log:
            assert b"reward" in log.read()


def test_a_file_outside_the_run_folder_is_refused(run: Run, record: Record) -> None:
    path = record(run.id) / "events.jsonl"
    path.write_text(path.read_text().replace('"test_log":"rollouts/', '"test_log":"../../', 1))
    with pytest.raises(IngestError, match="outside the run's folder"):
        ingest(run.id, path.parent)


ALARMS = {
    1: [Alarm(step=1, rule="truncated", sentence="Cut.", remedy="Raise it.")],
    2: [
        Alarm(step=2, rule="truncated", sentence="Over.", remedy="", cleared=True),
        Alarm(step=2, rule="aborted", sentence="Lost.", remedy="Look."),
    ],
}


def crash_and_resume(run: Run, run_dir: Path, config: TrainConfig) -> None:
    """Two steps; a third with one group done and one begun; then an attempt that goes on from 1."""
    run_dir.mkdir()
    writer = EventWriter(run_dir)
    host: dict[str, Any] = {}
    data = config.model_dump(mode="json")
    writer.write(Started(run=run.id, config=data, versions={}, host=host, tasks=[]))
    for step in (1, 2):
        for event in group(run_dir, run.id, 1, step, "starter/count-up", "train"):
            writer.write(event)
        writer.write(PhaseEnded(step=step, phase="rollout", seconds=1.0))
        done = StepEnded(
            step=step, policy_version=step, updated=True, seconds=2, metrics=metrics(step)
        )
        writer.write(done)
        for alarm in ALARMS[step]:
            writer.write(alarm)
        writer.write(TasksResting(step=step, tasks={f"starter/{step}": 0.0}))
        if step == 1:
            writer.write(CheckpointSaved(step=1, path="checkpoints/1", size_mib=1))
    cut = group(run_dir, run.id, 1, 3, "starter/count-up", "train")
    half = group(run_dir, run.id, 1, 1, "starter/frost-warning", "evaluation")
    for events in (cut, half):
        for _ in range(6):
            writer.write(next(events))
    writer.write(Resumed(run=run.id, attempt=2, from_step=1))
    writer.write(TasksResting(step=1, tasks={"starter/1": 0.0}))
    for event in group(run_dir, run.id, 2, 2, "starter/count-up", "train"):
        writer.write(event)
    writer.write(PhaseEnded(step=2, phase="rollout", seconds=3.0))
    writer.write(done.model_copy(update={"seconds": 5.0}))
    writer.close()


def test_what_a_resumed_run_does_over_is_superseded(
    run: Run, tmp_path: Path, config: TrainConfig
) -> None:
    crash_and_resume(run, tmp_path / "run", config)
    ingest(run.id, tmp_path / "run")
    run.refresh_from_db()
    assert (run.attempt, run.current_step) == (2, 2)
    told = list(run.steps.values_list("step", "attempt", "superseded", "seconds"))
    assert told == [(1, 1, False, 2.0), (2, 1, True, 2.0), (2, 2, False, 5.0)]
    assert run.steps.get(step=2, attempt=2).phases == {"rollout": 3.0}
    kept = run.rollouts.filter(superseded=False).values_list("step", "attempt", "purpose")
    assert set(kept) == {(1, 1, "train"), (2, 2, "train")}
    assert not run.rollouts.in_flight().exists()
    assert set(run.groups.filter(superseded=False).values_list("step", "attempt")) == {
        (1, 1),
        (2, 2),
    }


def test_alarms_stand_until_they_are_cleared(run: Run, tmp_path: Path, config: TrainConfig) -> None:
    """Line by line: raised at 1, cleared at 2 beside another; the resumption goes back to what stood at 1."""
    crash_and_resume(run, tmp_path / "run", config)
    lines = (tmp_path / "run" / "events.jsonl").read_bytes().splitlines(keepends=True)
    grown, stood = tmp_path / "grown", []
    grown.mkdir()
    for line in lines:
        with (grown / "events.jsonl").open("ab") as file:
            file.write(line)
        ingest(run.id, grown, copy_files=False)
        run.refresh_from_db()
        if not stood or stood[-1] != run.alarms:
            stood.append(run.alarms)
    assert [sorted(alarms) for alarms in stood] == [
        [], ["truncated"], [], ["aborted"], ["truncated"],
    ]  # fmt: skip
    assert stood[-1]["truncated"] == {"step": 1, "sentence": "Cut.", "remedy": "Raise it."}
    assert run.resting == {"starter/1": 0.0}


def test_replay_gives_the_same_rows_after_a_crash(
    run: Run, tmp_path: Path, config: TrainConfig
) -> None:
    crash_and_resume(run, tmp_path / "run", config)
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    assert len(events) > 40
    ingest(run.id, tmp_path / "run")
    lived = rows(run)
    for _ in range(2):
        call_command("replay_run", tmp_path / "run")
        assert rows(run) == lived


def test_an_unknown_run_is_replayed_with_its_ids(
    db: None, record: Record, config: TrainConfig
) -> None:
    run_dir = record()
    call_command("replay_run", run_dir, copy_files=True)
    run = Run.objects.get(id=run_dir.name)
    assert (run.status, run.reason) == ("finished", "All steps done.")
    assert run.config == config.model_dump(mode="json")
    written = [event.rollout for event in events_of(run_dir, run.id, config, 1, 1) if event.type
               == "rollout_finished"]  # fmt: skip
    assert set(run.rollouts.values_list("id", flat=True)) == set(written)
    assert all(rollout.files for rollout in run.rollouts.all())


def test_the_feed_gives_events_as_they_were_written(run: Run, record: Record) -> None:
    run_dir = record(run.id)
    ingest(run.id, run_dir)
    first, second, *_ = (run_dir / "events.jsonl").read_text().splitlines()
    given = feed.events_after(run.id, 0, limit=2)
    for event, line in zip(given, (first, second), strict=True):
        written = json.loads(line)
        assert event.keys() == written.keys()
        assert {**event, "time": ""} == {**written, "time": ""}
    assert [event["seq"] for event in feed.events_after(run.id, 2, limit=3)] == [3, 4, 5]


def test_a_run_that_a_worker_holds_is_not_replayed(run: Run, record: Record, alice: User) -> None:
    run_dir = record(run.id)
    Run.objects.filter(id=run.id).update(status="running")
    with pytest.raises(Exception, match="stop it first"):
        call_command("replay_run", run_dir)
