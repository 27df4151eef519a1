"""What each event means for the rows of its run. `ingest` reads the file and holds the transaction.

Applied in order of seq, each event once; the same file always gives the same rows.
"""

from functools import singledispatch
from typing import Any

from django.db.models import Q

from trainer.events import (
    EVENT,
    Alarm,
    Evaluated,
    Event,
    Finished,
    GroupScored,
    PhaseEnded,
    Resumed,
    RolloutFinished,
    RolloutStarted,
    Started,
    StepEnded,
    TasksResting,
    TurnEnded,
)
from trainer.metrics.alarms import standing_alarms
from webapp.rollouts.models import Group, Rollout, Turn
from webapp.runs import models
from webapp.runs.models import Run, RunEvaluation, Step

CUT_OFF = "The run ended while this rollout was in flight."


@singledispatch
def project(event: Event, run: Run) -> None:
    """Change the rows of `run` as `event` says. For most types nothing but the event's own row."""


@project.register
def _(event: Started, run: Run) -> None:
    run.attempt = 1
    run.started_at = event.time


@project.register
def _(event: Resumed, run: Run) -> None:
    """What the new attempt does over is superseded: later steps, and what was cut off."""
    run.attempt = event.attempt
    run.current_step = min(run.current_step, event.from_step)
    later = Q(step__gt=event.from_step)
    evaluated = run.evaluations.filter(superseded=False, step__lte=event.from_step).values("step")
    half_evaluated = Q(purpose="evaluation") & ~Q(step__in=evaluated)
    run.steps.filter(later).update(superseded=True)
    run.evaluations.filter(later).update(superseded=True)
    run.groups.filter(later | half_evaluated | Q(rollouts__finished_at=None)).update(
        superseded=True
    )
    run.rollouts.filter(later | half_evaluated | Q(finished_at=None)).update(superseded=True)
    _stand(run, event)


@project.register
def _(event: PhaseEnded, run: Run) -> None:
    """Evaluation and checkpoint come after their step's row; the others before it."""
    step = run.steps.filter(step=event.step, attempt=run.attempt).first()
    if step:
        step.phases[event.phase] = step.phases.get(event.phase, 0) + event.seconds
        step.save(update_fields=["phases"])


@project.register
def _(event: StepEnded, run: Run) -> None:
    run.current_step = event.step
    Step.objects.create(
        run=run,
        step=event.step,
        attempt=run.attempt,
        time=event.time,
        updated=event.updated,
        policy_version=event.policy_version,
        seconds=event.seconds,
        metrics=event.metrics,
        phases=_phases_before(event, run),
    )


def _phases_before(event: StepEnded, run: Run) -> dict[str, float]:
    """Seconds by phase of this step, in this attempt."""
    starts = models.Event.objects.filter(run=run, type__in=("started", "resumed"))
    start = starts.filter(seq__lt=event.seq).order_by("seq").last()
    ended = models.Event.objects.filter(run=run, type="phase", payload__step=event.step)
    phases: dict[str, float] = {}
    for row in ended.filter(seq__gt=start.seq if start else 0, seq__lt=event.seq):
        phase = row.payload["phase"]
        phases[phase] = phases.get(phase, 0) + row.payload["seconds"]
    return phases


@project.register
def _(event: Alarm, run: Run) -> None:
    _stand(run, event)


def _stand(run: Run, event: Alarm | Resumed) -> None:
    """Which alarms stand now; a resumption goes back to those of its step."""
    told = models.Event.objects.filter(run=run, type__in=("alarm", "resumed"), seq__lte=event.seq)
    events = (EVENT.validate_python(row.as_written) for row in told.order_by("seq"))
    run.alarms = {
        rule: {"step": alarm.step, "sentence": alarm.sentence, "remedy": alarm.remedy}
        for rule, alarm in standing_alarms(events).items()
    }


@project.register
def _(event: TasksResting, run: Run) -> None:
    run.resting = event.tasks


@project.register
def _(event: RolloutStarted, run: Run) -> None:
    begin_rollout(event, run=run, attempt=run.attempt)


def begin_rollout(event: RolloutStarted, **whole: Any) -> None:
    """A rollout of `whole`, a run or an evaluation, and its group's first one brings the group."""
    shared = {
        "task": event.task,
        "step": event.step,
        "purpose": event.purpose,
        "policy_version": event.policy_version,
        **whole,
    }
    group, _ = Group.objects.get_or_create(
        id=event.group, defaults=shared | {"prompt": event.prompt}
    )
    if event.prompt and not group.prompt:
        group.prompt = event.prompt
        group.save(update_fields=["prompt"])
    Rollout.objects.create(
        id=event.rollout, group=group, index=event.index, started_at=event.time, **shared
    )


@project.register
def _(event: TurnEnded, run: Run) -> None:
    add_turn(event)


def add_turn(event: TurnEnded) -> None:
    turn = event.turn.model_dump(exclude={"action"})
    action = event.turn.action
    if action:
        turn |= {"tool": action.tool[:80], "arguments": action.arguments}
    Turn.objects.create(rollout_id=event.rollout, time=event.time, **turn)
    Rollout.objects.filter(id=event.rollout).update(num_turns=event.turn.index + 1)


@project.register
def _(event: RolloutFinished, run: Run) -> None:
    end_rollout(event)


def end_rollout(event: RolloutFinished) -> None:
    """Files are left to `ingest`, which knows where they went."""
    told = event.model_dump(
        exclude={"seq", "time", "type", "rollout", "group", "task", "step", "purpose", "files"}
    )
    Rollout.objects.filter(id=event.rollout).update(finished_at=event.time, **told)


@project.register
def _(event: GroupScored, run: Run) -> None:
    run.groups.filter(id=event.group).update(trained=event.trained)
    for rollout, advantage, filtered in zip(
        event.rollouts, event.advantages, event.filtered, strict=True
    ):
        run.rollouts.filter(id=rollout).update(advantage=advantage, filtered=filtered)


@project.register
def _(event: Evaluated, run: Run) -> None:
    told = event.model_dump(exclude={"seq", "type"})
    RunEvaluation.objects.create(run=run, attempt=run.attempt, **told)


@project.register
def _(event: Finished, run: Run) -> None:
    cut_off = run.rollouts.filter(finished_at=None, superseded=False)
    cut_off.update(superseded=True, reason=CUT_OFF)
