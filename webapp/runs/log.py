"""A run's events as log lines, for people. The raw events are at the API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from webapp.runs.models import Event, Run

PAGE_LINES = 300
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class LogRow:
    seq: int
    time: datetime
    level: str
    text: str


def log_lines(run: Run, *, level: str, before: int | None) -> list[LogRow]:
    """The newest PAGE_LINES lines of at least `level`, newest first; those before seq `before` when
    given.
    """
    types = ["started", "resumed", "alarm", "resting", "log", "checkpoint", "evaluation", "step"]
    types.append("finished")
    events = Event.objects.filter(run=run, type__in=types).order_by("-seq")
    least = LEVELS.index(level) if level in LEVELS else 1
    if least > LEVELS.index("info"):
        events = events.filter(type__in=["alarm", "log", "finished"])
    if before is not None:
        events = events.filter(seq__lt=before)
    rows = (_row(event) for event in events[:PAGE_LINES])
    return [row for row in rows if LEVELS.index(row.level) >= least]


def _row(event: Event) -> LogRow:
    payload = event.payload
    level = payload.get("level", "info")
    if event.type == "alarm":
        level = "info" if payload.get("cleared") else "warning"
    elif event.type == "finished" and payload["status"] == "failed":
        level = "error"
    return LogRow(seq=event.seq, time=event.time, level=level, text=_text(event.type, payload))


def _text(kind: str, payload: dict[str, Any]) -> str:
    match kind:
        case "log":
            return str(payload["text"])
        case "alarm":
            return _alarm_text(payload)
        case "resting":
            names = ", ".join(payload["tasks"]) or "none"
            return f"tasks that rest after step {payload['step']}: {names}"
        case "started":
            host = payload["host"]
            return (
                f"started on {host.get('name', 'an unnamed host')}, {len(payload['tasks'])} tasks"
            )
        case "resumed":
            return f"attempt {payload['attempt']} goes on from step {payload['from_step']}"
        case "checkpoint":
            return f"checkpoint of step {payload['step']} saved, {payload['size_mib']:.0f} MiB"
        case "evaluation":
            return (
                f"held-out reward {payload['mean_reward']:.3f} after step {payload['step']} on "
                f"{payload['num_tasks']} tasks × {payload['group_size']} rollouts"
            )
        case "step":
            return _step_text(payload)
        case _:
            return f"{payload['status']}: {payload['reason']}"


def _alarm_text(payload: dict[str, Any]) -> str:
    word = "alarm over" if payload.get("cleared") else "alarm"
    told = f"step {payload['step']}: {word}: {payload['sentence']} {payload['remedy']}"
    return told.rstrip()


def _step_text(payload: dict[str, Any]) -> str:
    reward = payload["metrics"].get("reward/mean")
    shown = f", reward {reward[0] / reward[1]:.3f}" if reward and reward[1] else ""
    learned = "" if payload["updated"] else ", nothing to learn"
    return f"step {payload['step']} took {payload['seconds']:.1f} s{shown}{learned}"
