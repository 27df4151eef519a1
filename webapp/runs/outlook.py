"""What the new-run page knows beside the form: the estimate, on measured steps, and which workers
fit.
"""

from dataclasses import dataclass
from statistics import median

from trainer.config import TrainConfig
from webapp.runs import placement
from webapp.runs.configs import value_at
from webapp.runs.estimate import Estimate, Pace, estimate
from webapp.runs.forms import RunForm
from webapp.runs.models import Run, Worker
from webapp.tasksets.models import Task

MIN_STEPS = 2
"""Fewer measured steps say nothing about the pace."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    estimate: Estimate | None
    """None while the form is wrong."""
    pace: Pace | None
    measured_on: Run | None
    workers: list[tuple[Worker, str]]
    """Each worker online for training, and why it cannot take the run; empty when it can."""

    @property
    def has_fitting_worker(self) -> bool:
        return any(not obstacle for _, obstacle in self.workers)


def outlook(form: RunForm) -> Outlook:
    """Checks an unbound form's initial values as well."""
    config = _config(form)
    if config is None:
        return Outlook(estimate=None, pace=None, measured_on=None, workers=[])
    measured_on, pace = _pace(config.recipe)
    run = Run(recipe=config.recipe, config=config.model_dump(mode="json"))
    return Outlook(
        estimate=estimate(config, heldout_tasks=_heldout_tasks(config), pace=pace),
        pace=pace,
        measured_on=measured_on,
        workers=[(w, placement.obstacle(run, w)) for w in placement.train_workers()],
    )


def _config(form: RunForm) -> TrainConfig | None:
    if form.is_bound:
        form.is_valid()
        return getattr(form, "config", None)
    return TrainConfig.model_validate(form.base)


def _pace(recipe: str) -> tuple[Run | None, Pace | None]:
    """Of the newest run of the recipe with enough steps."""
    for run in Run.objects.filter(recipe=recipe, current_step__gte=MIN_STEPS)[:1]:
        seconds = list(run.steps.filter(superseded=False).values_list("seconds", flat=True))
        if len(seconds) >= MIN_STEPS:
            tasks, size = (
                value_at(run.config, path)
                for path in ("tasks.tasks_per_step", "rollout.group_size")
            )
            pace = Pace(
                step_s=median(seconds), rollouts_per_step=tasks * size, num_steps=len(seconds)
            )
            return run, pace
    return None, None


def _heldout_tasks(config: TrainConfig) -> int:
    tasks = Task.objects.filter(taskset__source=config.tasks.taskset, split="heldout")
    if config.evaluation.difficulties:
        tasks = tasks.filter(difficulty__in=config.evaluation.difficulties)
    return tasks.count()
