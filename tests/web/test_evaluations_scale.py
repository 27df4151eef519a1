"""DeepSWE's published sizes on the page: 500 tasks x 16 rollouts, pass@1 42.2 %, pass@16 71.0 %."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.web import published_sizes
from trainer.evaluations.estimates import pass_at_k
from trainer.evaluations.results import RESULT_EVENTS, results_of
from trainer.events import EVENTS_FILE, read_events_of
from webapp.evaluations.models import Evaluation, EvaluationStatus, Shard
from webapp.rollouts.models import Group, Rollout


@pytest.fixture
def evaluation(tmp_path: Path, db: None) -> Evaluation:
    """Its rows, made in bulk from the same events that `replay_evaluation` reads one by one."""
    published_sizes.write(tmp_path)
    results = results_of(read_events_of(tmp_path / EVENTS_FILE, RESULT_EVENTS), tmp_path)
    config = published_sizes.load_evaluation_recipe("deepswe").model_dump(mode="json")
    evaluation = Evaluation.objects.create(
        id=published_sizes.EVALUATION,
        name="published",
        config=config,
        status=EvaluationStatus.FINISHED,
    )
    tasks = sorted({result.task for result in results})
    Shard.objects.create(evaluation=evaluation, number=1, total=1, tasks=tasks)
    shared = {"evaluation": evaluation, "step": 0, "purpose": "evaluation", "policy_version": 0}
    groups = {r.task: Group(id=r.finished.group, task=r.task, **shared) for r in results}
    Group.objects.bulk_create(groups.values())
    told = {"seq", "time", "type", "rollout", "group", "step", "purpose"}
    Rollout.objects.bulk_create(
        Rollout(
            id=result.rollout,
            group=groups[result.task],
            index=result.index,
            started_at=result.started_at,
            finished_at=result.finished.time,
            **result.finished.model_dump(exclude=told),
            **shared,
        )
        for result in results
    )
    return evaluation


def test_the_page_shows_the_published_figures_and_the_curve_between(
    client: Client, bob: User, evaluation: Evaluation
) -> None:
    client.force_login(bob)
    page = client.get(f"/evaluations/{evaluation.pk}/").content.decode()
    for shown in ("8,000", "42.2 %", "71.0 %", "pass@16"):
        assert shown in page
    figures = client.get(f"/evaluations/{evaluation.pk}/figures.json").json()["figures"]
    (curve,) = [trace for trace in figures["curves"]["data"] if trace["name"] == "pass@k"]
    counts = published_sizes.num_passed()
    expected = [sum(pass_at_k(16, c, k) for c in counts) / 500 for k in range(1, 17)]
    assert curve["x"] == list(range(1, 17))
    assert curve["y"] == pytest.approx(expected, abs=1e-5)
    assert (round(curve["y"][0], 3), round(curve["y"][-1], 3)) == (0.422, 0.71)
    last = client.get(f"/evaluations/{evaluation.pk}/tasks/?page=20&sort=rate").content.decode()
    assert "476–500 of 500" in last
