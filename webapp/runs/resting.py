"""The curriculum of a run as its page tells it: the rule in words, and which tasks are sampled less now, and why."""

from dataclasses import dataclass

from webapp.runs.configs import value_at
from webapp.runs.models import Event, Run


@dataclass(frozen=True, kw_only=True)
class Resting:
    visits: int
    """Visits that must have been alike."""
    passes: int
    """Passes that then leave a task out."""
    num_tasks: int
    """Of the run's training pool."""
    nobody: list[str]
    everybody: list[str]

    @property
    def count(self) -> int:
        return len(self.nobody) + len(self.everybody)


def resting(run: Run) -> Resting | None:
    """None for a run whose tasks never rest."""
    visits = value_at(run.config, "tasks.rest_after_visits")
    if not visits:
        return None
    started = Event.objects.filter(run=run, type="started").order_by("seq").first()
    return Resting(
        visits=visits,
        passes=value_at(run.config, "tasks.rest_passes"),
        num_tasks=len(started.payload["tasks"]) if started else 0,
        nobody=sorted(task for task, rate in run.resting.items() if rate == 0),
        everybody=sorted(task for task, rate in run.resting.items() if rate == 1),
    )
