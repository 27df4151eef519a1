"""An evaluation's numbers from its rows."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Avg, Count, QuerySet
from django.db.models.functions import MD5, Length

from trainer.evaluations.summary import RolloutRow, Summary, summarize
from webapp.evaluations.kept import Kept
from webapp.evaluations.models import Evaluation, Shard
from webapp.rollouts.models import Rollout
from webapp.tasksets.models import Task


def summary_of(evaluation: Evaluation) -> Summary:
    """Of the rollouts that ended and count."""
    return SUMMARY.of(evaluation)


def rollout_rows(evaluation: Evaluation) -> list[RolloutRow]:
    """Of the rollouts that ended and count, in the order of tasks and places."""
    columns = (
        "task",
        "id",
        "termination_reason",
        "reward",
        "flags",
        "digest",
        "size",
        "num_turns",
        "num_sampled_tokens",
        "num_response_tokens",
        "seconds",
        "grade_s",
    )
    rows = evaluation.counted_rollouts().annotate(digest=MD5("patch"), size=Length("patch"))
    return [RolloutRow(*row) for row in rows.order_by("task", "index").values_list(*columns)]


def _summarize(evaluation: Evaluation) -> Summary:
    known = list(_known(evaluation).values_list("task_id", "repo_name", "difficulty"))
    return summarize(
        rollout_rows(evaluation),
        repository_of={task: repository for task, repository, _ in known},
        difficulty_of={task: difficulty for task, _, difficulty in known},
    )


def _known(evaluation: Evaluation) -> QuerySet[Task]:
    """Those of its tasks whose taskset is loaded."""
    return Task.objects.filter(task_id__in=task_ids(evaluation))


def _state(evaluation: Evaluation) -> str:
    return f"{evaluation.last_seq}, {_known(evaluation).count()} known"


SUMMARY = Kept("summary", Summary, state=_state, work_out=_summarize)


def task_ids(evaluation: Evaluation) -> list[str]:
    """Of all shards that have begun, by name."""
    return sorted(task for shard in evaluation.shards.all() for task in shard.tasks)


def solve_rates(evaluation: Evaluation) -> dict[str, float]:
    """task -> mean reward of its scored rollouts; tasks with none are left out."""
    rows = evaluation.counted_rollouts().exclude(reward=None).order_by()
    return dict(rows.values("task").annotate(mean=Avg("reward")).values_list("task", "mean"))


class Progress:
    """How far several evaluations are, in two queries."""

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        ids = [evaluation.pk for evaluation in evaluations]
        self._tasks: dict[Any, int] = {}
        for pk, tasks in Shard.objects.filter(evaluation__in=ids).values_list(
            "evaluation_id", "tasks"
        ):
            self._tasks[pk] = self._tasks.get(pk, 0) + len(tasks)
        done = Rollout.objects.filter(
            evaluation__in=ids, superseded=False, finished_at__isnull=False
        )
        by_task = done.order_by().values("evaluation_id", "task")
        rows = by_task.annotate(mean=Avg("reward"), scored=Count("reward"))
        self._scored: dict[Any, int] = {}
        self._means: dict[Any, list[float]] = {}
        for row in rows:
            pk = row["evaluation_id"]
            self._scored[pk] = self._scored.get(pk, 0) + row["scored"]
            if row["scored"]:
                self._means.setdefault(pk, []).append(row["mean"])

    def num_tasks(self, evaluation: Evaluation) -> int:
        return self._tasks.get(evaluation.pk, 0)

    def num_scored(self, evaluation: Evaluation) -> int:
        return self._scored.get(evaluation.pk, 0)

    def wanted(self, evaluation: Evaluation) -> int:
        """Rollouts of all tasks that are known of."""
        return self.num_tasks(evaluation) * evaluation.group_size

    def pass_at_1(self, evaluation: Evaluation) -> float | None:
        means = self._means.get(evaluation.pk)
        return sum(means) / len(means) if means else None
