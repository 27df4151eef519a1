"""An evaluation through a whole studio: web server, broker, worker, the process, sandboxes; the worker is killed half-way."""

from pathlib import Path
from typing import Any

import pytest

from sandbox.task import load_taskset
from tests.conftest import free_port
from tests.trainer.scripted_endpoint import ScriptedEndpoint, share_solved
from tests.trainer.test_evaluate import seed_of
from tests.web.running_studio import Studio, running_studio

NAMES = ["bonus-points", "budget-left", "class-average", "count-the-sheep"]
K = 4


def launch(studio: Studio, url: str) -> str:
    headers = {"X-CSRFToken": studio.browser.cookies["csrftoken"], "Referer": studio.base}
    changes: dict[str, Any] = {
        "model": {"path": "m", "endpoint": url},
        "tasks": {"split": "all", "only": NAMES},
        "rollout": {"group_size": K, "max_turn_tokens": 700, "concurrency": 2},
    }
    data = {"name": "killed half-way", "num_shards": 2, "changes": changes}
    answer = studio.browser.post("/api/evaluations", json=data, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"/evaluations/{answer.json()['id']}"


@pytest.mark.slow
def test_a_killed_worker_leaves_each_rollout_done_once_and_the_aggregate_as_it_would_be(
    tmp_path: Path,
) -> None:
    tasks = [t for t in load_taskset("starter").tasks if t.task_id.partition("/")[2] in NAMES]
    with (
        ScriptedEndpoint(tasks) as endpoint,
        running_studio(tmp_path, free_port(), ["false"], demo=False) as studio,
    ):
        path = launch(studio, endpoint.url)
        studio.until(lambda: studio.api(path)["num_scored"] >= 4)
        endpoint.answering.clear()
        studio.kill("celery")
        endpoint.answering.set()
        studio.until(lambda: studio.api(path)["status"] == "finished")
        results = studio.api(f"{path}/results")
        assert studio.processes("trainer.evaluate") == []
    places = [(row["task"], row["index"]) for row in results["results"]]
    assert places == [(task.task_id, index) for task in tasks for index in range(K)]
    expected = [
        float(share_solved(task, seed_of(task, index))) for task in tasks for index in range(K)
    ]
    assert [row["reward"] for row in results["results"]] == expected
    assert results["pass_at_1"]["value"] == pytest.approx(sum(expected) / len(expected))
