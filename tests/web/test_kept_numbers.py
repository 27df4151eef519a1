"""An evaluation's numbers as rows: what pages show of them, and when they are worked out."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from sandbox.task import load_taskset
from tests.trainer.scripted_endpoint import ScriptedEndpoint
from tests.web.evaluated import config_of, recorded_evaluation
from webapp.assessments.models import Result
from webapp.assessments.selection import selection_of
from webapp.evaluations.kept import Renewal
from webapp.evaluations.models import Evaluation, EvaluationStatus, KeptNumbers, Shard
from webapp.evaluations.overview import SUMMARY, summary_of
from webapp.evaluations.replay import replay
from webapp.verifiers.models import Verifier


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with ScriptedEndpoint(load_taskset("starter").tasks) as endpoint:
        folder = tmp_path_factory.mktemp("recorded")
        return recorded_evaluation(config_of(endpoint, group_size=2), folder)


@pytest.fixture
def evaluation(recorded: Path, db: None) -> Evaluation:
    return replay(recorded)


def one_more_event(evaluation: Evaluation) -> Evaluation:
    shard = evaluation.shards.get(number=1)
    Shard.objects.filter(id=shard.id).update(last_seq=shard.last_seq + 1)
    return Evaluation.objects.get(id=evaluation.id)


def mark(evaluation: Evaluation) -> None:
    """Change the kept summary so that it is known again."""
    row = KeptNumbers.objects.get(evaluation=evaluation, name="summary")
    row.numbers = row.numbers.replace('"num_rollouts":8', '"num_rollouts":801')
    row.save()


def test_whoever_stores_an_evaluation_works_its_numbers_out(
    client: Client, bob: User, evaluation: Evaluation
) -> None:
    assert set(evaluation.kept.values_list("name", flat=True)) == {"summary", "selection"}
    mark(evaluation)
    client.force_login(bob)
    page = client.get(f"/evaluations/{evaluation.pk}/")
    assert page.context["summary"].num_rollouts == 801


def test_what_is_kept_is_what_was_worked_out(evaluation: Evaluation) -> None:
    kept = summary_of(evaluation), selection_of(evaluation)
    KeptNumbers.objects.all().delete()
    worked_out = summary_of(evaluation), selection_of(evaluation)
    assert kept == worked_out
    assert list(kept[0].curves) == list(worked_out[0].curves)
    assert kept[0].num_rollouts == 8


def test_an_event_makes_them_out_of_date(evaluation: Evaluation) -> None:
    mark(evaluation)
    assert summary_of(evaluation).num_rollouts == 801
    assert summary_of(one_more_event(evaluation)).num_rollouts == 8
    assert summary_of(Evaluation.objects.get(id=evaluation.id)).num_rollouts == 8


def test_results_that_replace_as_many_make_them_out_of_date(evaluation: Evaluation) -> None:
    rollouts = list(evaluation.counted_rollouts())
    for name in ("first", "second"):
        verifier = Verifier.objects.create(name=name)
        Result.objects.all().delete()
        Result.objects.bulk_create(
            Result(rollout=rollout, verifier=verifier, score=0.5) for rollout in rollouts
        )
        assert set(selection_of(evaluation).verified) == {name}


def test_a_page_shows_what_is_kept_while_a_worker_is_at_it(evaluation: Evaluation) -> None:
    mark(evaluation)
    Evaluation.objects.update(status=EvaluationStatus.RUNNING)
    live = one_more_event(evaluation)
    assert summary_of(live).num_rollouts == 801
    SUMMARY.bring_up_to_date(live)
    assert summary_of(live).num_rollouts == 8


def test_numbers_in_another_form_are_worked_out_again(evaluation: Evaluation) -> None:
    KeptNumbers.objects.update(numbers='{"num_tasks": 4}')
    assert summary_of(evaluation).num_rollouts == 8
    assert selection_of(evaluation).max_k == 2


def test_a_worker_renews_them_for_a_small_share_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, done = [100.0], []

    def work() -> None:
        now[0] += 0.5
        done.append(now[0])

    monkeypatch.setattr("webapp.evaluations.kept.time.monotonic", lambda: now[0])
    renew = Renewal(work)
    while now[0] < 200:
        renew()
        now[0] += 0.25
    assert 9 <= len(done) <= 10
