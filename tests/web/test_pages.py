"""Every page: works, is closed to strangers, does not know unknown ids, asks a bounded number of
queries."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from webapp.rollouts.models import STRIP_CELLS, Rollout
from webapp.runs.ingest import ingest
from webapp.runs.models import Run, RunStatus, Worker
from webapp.tasksets.load import load
from webapp.tasksets.models import Task, Taskset

UNKNOWN = UUID("11111111-1111-1111-1111-111111111111")
RUN_PAGES = [
    "",
    "resting/",
    "header/",
    "figures.json",
    "live/",
    "live/rows/",
    "steps/",
    "config/",
    "log/",
]
ROLLOUT_PAGES = ["", "turns/1/", "patch/", "patch/?view=split", "tests/", "tokens/", "raw/"]
MAX_QUERIES = 16


@pytest.fixture
def trained(run: Run, record: Callable[[UUID], Path]) -> Run:
    """A run of two steps, read from its files."""
    ingest(run.pk, record(run.pk))
    Run.objects.filter(pk=run.pk).update(status=RunStatus.FINISHED)
    run.refresh_from_db()
    return run


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def addresses(run: Run) -> list[str]:
    """Every page there is, on this run's rows."""
    rollout = run.rollouts.filter(reward=1).first()
    return [
        "/runs/",
        "/runs/?status=finished&recipe=starter-cpu&q=fir&sort=-reward",
        "/runs/new/",
        f"/runs/new/?clone={run.pk}",
        *(f"/runs/{run.pk}/{page}" for page in RUN_PAGES),
        f"/runs/{run.pk}/?x=time&smoothing=0.9&log=on",
        f"/runs/{run.pk}/live/?rollout={rollout.pk}",
        f"/runs/{run.pk}/steps/1/",
        f"/runs/{run.pk}/steps/0/?purpose=evaluation",
        f"/runs/{run.pk}/log/?level=error&before=5",
        f"/groups/{rollout.group_id}/",
        *(f"/rollouts/{rollout.pk}/{page}" for page in ROLLOUT_PAGES),
        "/tasksets/",
        "/tasksets/starter/",
        "/tasksets/starter/?difficulty=easy&split=heldout&q=count",
        f"/tasks/{rollout.task}/",
        "/workers/",
        "/settings/",
    ]


def test_every_page_works_within_its_queries(
    signed_in: Client, trained: Run, worker: Worker, django_assert_max_num_queries: Callable
):
    load("starter")
    for address in addresses(trained):
        with django_assert_max_num_queries(MAX_QUERIES):
            response = signed_in.get(address)
        assert response.status_code == 200, address


def test_nothing_is_shown_to_who_is_not_signed_in(client: Client, trained: Run):
    for address in addresses(trained):
        response = client.get(address)
        assert response.status_code == 302, address
        assert response["Location"].startswith("/sign-in/?next="), address


@pytest.mark.parametrize(
    "address",
    [
        *(f"/runs/{UNKNOWN}/{page}" for page in [*RUN_PAGES, "steps/1/"]),
        f"/runs/new/?clone={UNKNOWN}",
        "/runs/new/?clone=nonsense",
        "/runs/new/?recipe=nonsense",
        f"/groups/{UNKNOWN}/",
        *(f"/rollouts/{UNKNOWN}/{page}" for page in ROLLOUT_PAGES),
        "/tasksets/unknown/",
        "/tasks/unknown/task/",
    ],
)
def test_an_unknown_id_is_not_found(signed_in: Client, address: str):
    assert signed_in.get(address).status_code == 404


def test_a_step_that_has_not_begun_is_not_found(signed_in: Client, trained: Run):
    assert signed_in.get(f"/runs/{trained.pk}/steps/99/").status_code == 404


@pytest.mark.parametrize("rollout", ["nonsense", str(UNKNOWN)])
def test_following_an_unknown_rollout_is_not_found(signed_in: Client, trained: Run, rollout: str):
    address = f"/runs/{trained.pk}/live/?rollout={rollout}"
    assert signed_in.get(address).status_code == 404


def test_more_runs_cost_no_more_queries(signed_in: Client, trained: Run):
    before = count_queries(signed_in, "/runs/")
    for _ in range(5):
        trained.pk = uuid4()
        trained._state.adding = True
        trained.save()
    assert count_queries(signed_in, "/runs/") == before


def count_queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    return len(queries)


def test_the_first_run_is_invited_on_an_empty_list(signed_in: Client):
    assert b"Start the first run" in signed_in.get("/runs/").content


def test_the_list_shows_progress_reward_and_a_cell_a_rollout(signed_in: Client, trained: Run):
    page = signed_in.get("/runs/").content.decode()
    assert 'aria-valuenow="2"' in page
    assert "0.38" in page  # 3 of 8 in the second step
    last = trained.rollouts.filter(step=2, purpose="train")
    assert last.count() == 8
    assert all(f"/rollouts/{rollout.pk}/" in page for rollout in last)


def test_a_strip_of_a_large_step_shows_its_first_rollouts_and_says_how_many_more(
    signed_in: Client, trained: Run
):
    like = trained.rollouts.filter(step=2, purpose="train").first()
    more = []
    for index in range(8, 8 + STRIP_CELLS):
        like.pk, like.index = uuid4(), index
        more.append(copy(like))
    Rollout.objects.bulk_create(more)
    for address in ("/runs/", f"/runs/{trained.pk}/header/"):
        page = signed_in.get(address).content.decode()
        assert page.count('href="/rollouts/') == STRIP_CELLS
        assert f'href="/runs/{trained.pk}/steps/2/" title="8 more rollouts' in page


def test_a_large_taskset_is_shown_in_pages(signed_in: Client):
    taskset = Taskset.objects.create(name="large")
    Task.objects.bulk_create(
        Task(taskset=taskset, task_id=f"large/{number:03}", split="train") for number in range(51)
    )
    first = signed_in.get("/tasksets/large/?split=train")
    assert "51 tasks" in first.content.decode()
    assert [task.task_id for task, _ in first.context["rows"]][-1] == "large/049"
    assert "?split=train&amp;page=2" in first.content.decode()
    second = signed_in.get("/tasksets/large/?split=train&page=2")
    assert [task.task_id for task, _ in second.context["rows"]] == ["large/050"]


def test_filters_that_match_nothing_say_so(signed_in: Client, trained: Run):
    assert b"No run matches" in signed_in.get("/runs/?q=nothing-of-this-name").content


def test_the_list_sorts_by_the_last_reward(signed_in: Client, trained: Run, config, alice: User):
    Run.objects.create(
        name="unmeasured", recipe="starter-cpu", config=trained.config, num_steps=2, owner=alice
    )
    names = [row.run.name for row in signed_in.get("/runs/?sort=reward").context["rows"]]
    assert names == ["first", "unmeasured"]


def test_the_figures_hold_the_measured_rewards(signed_in: Client, trained: Run):
    figures = signed_in.get(f"/runs/{trained.pk}/figures.json").json()["figures"]
    assert figures["reward"]["data"][0]["y"] == [0.25, 0.375]
    assert figures["phases"]["data"][0]["name"] == "rollout"


def test_a_queued_run_says_what_it_waits_for(signed_in: Client, run: Run):
    page = signed_in.get(f"/runs/{run.pk}/").content
    assert b"none is online for the queue train" in page


def test_an_alarm_stands_in_the_header(signed_in: Client, trained: Run):
    alarm = {"step": 2, "sentence": "Entropy <b>fell</b>.", "remedy": "Raise it."}
    Run.objects.filter(pk=trained.pk).update(alarms={"entropy": alarm})
    for address in ("", "header/", "steps/1/"):
        page = signed_in.get(f"/runs/{trained.pk}/{address}").content
        assert b"Entropy &lt;b&gt;fell&lt;/b&gt;." in page
        assert b"Raise it." in page


def test_the_list_marks_a_run_with_alarms(signed_in: Client, trained: Run):
    assert b"alarm-mark" not in signed_in.get("/runs/").content
    alarm = {"step": 2, "sentence": 'Entropy "fell".', "remedy": "Raise it."}
    Run.objects.filter(pk=trained.pk).update(alarms={"entropy": alarm, "aborted": alarm})
    page = signed_in.get("/runs/").content.decode()
    assert 'title="Entropy &quot;fell&quot;. Entropy &quot;fell&quot;."' in page
    assert '2<span class="visually-hidden"> alarms</span>' in page


def test_the_log_tells_alarms_as_warnings_and_their_end_as_news(signed_in: Client, trained: Run):
    told = {"step": 2, "rule": "r", "sentence": "Entropy fell.", "remedy": "Raise it."}
    over = told | {"sentence": "Entropy is back.", "remedy": "", "cleared": True}
    for number, payload in enumerate((told, over), start=1):
        seq, time = trained.last_seq + number, trained.created_at
        trained.events.create(seq=seq, time=time, type="alarm", payload=payload)
    warnings = signed_in.get(f"/runs/{trained.pk}/log/?level=warning").content
    assert b"step 2: alarm: Entropy fell. Raise it." in warnings
    assert b"Entropy is back." not in warnings
    everything = signed_in.get(f"/runs/{trained.pk}/log/").content
    assert b"step 2: alarm over: Entropy is back." in everything


def test_a_curriculum_says_its_rule_and_which_tasks_it_leaves_out(signed_in: Client, trained: Run):
    address = f"/runs/{trained.pk}/"
    assert b"sampled less" not in signed_in.get(address).content
    trained.config["tasks"] |= {"rest_after_visits": 2, "rest_passes": 3}
    trained.resting = {"starter/hard": 0.0, "starter/dull": 1.0}
    trained.save()
    for page in (address, f"{address}resting/"):
        content = signed_in.get(page).content.decode()
        assert "in each of its last 2 visits" in content
        assert "the next 3 passes" in content
        assert 'Nobody solved</dt><dd class="mono">starter/hard' in content
        assert 'Everybody solved</dt><dd class="mono">starter/dull' in content


def test_the_group_page_shows_each_patch_once(signed_in: Client, trained: Run):
    group = trained.rollouts.filter(reward=1).first().group
    assert len(signed_in.get(f"/groups/{group.pk}/").context["patches"]) == 1


def test_the_tests_tab_shows_the_stored_log(signed_in: Client, trained: Run):
    rollout = trained.rollouts.filter(reward=1).first()
    assert b"1 test, reward 1.0" in signed_in.get(f"/rollouts/{rollout.pk}/tests/").content


def test_what_an_agent_wrote_is_never_markup(signed_in: Client, trained: Run):
    rollout: Rollout = trained.rollouts.filter(reward=1).first()
    evil = "<script>alert(1)</script>\x1b[31m"
    rollout.turns.update(thought=evil, text=evil, observation=evil, error=evil, tool=evil[:9])
    rollout.turns.filter(index=0).update(arguments={"path": evil, "old_str": evil, "new_str": evil})
    Rollout.objects.filter(pk=rollout.pk).update(patch=evil, reason=evil, tests={evil: "FAILED"})
    pages = [f"/rollouts/{rollout.pk}/{page}" for page in ROLLOUT_PAGES]
    for address in [*pages, f"/groups/{rollout.group_id}/"]:
        content = signed_in.get(address).content.decode()
        assert "<script>alert" not in content, address
        assert "\x1b" not in content, address


def test_pages_carry_a_policy_without_inline_code(signed_in: Client, trained: Run):
    response = signed_in.get(f"/runs/{trained.pk}/")
    policy = response["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    page = response.content.decode()
    assert " style=" not in page
    assert " onclick=" not in page
