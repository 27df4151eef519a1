"""An evaluation of many tasks through a whole studio, by scripted agents in real sandboxes: stopped half-way, gone on with,
complete; and what its page costs the web server.

TASKS says how many, of 16 rollouts each: 40 where it is not set, 500 by `make large-evaluation-test`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sandbox.task import TASKS_FILE, Task, load_taskset
from tests.conftest import free_port
from tests.trainer.scripted_endpoint import ScriptedEndpoint, share_solved
from tests.trainer.test_evaluate import seed_of
from tests.web.running_studio import Studio, running_studio
from webapp import settings

NUM_TASKS = int(os.environ.get("TASKS", "40"))
K = 16
STOP_WITHIN_S = 30
PAGE_WITHIN_S = 0.3
WAIT_S = 60 + NUM_TASKS * K


def make_taskset(folder: Path) -> list[Task]:
    """The starter's tasks over and over, each copy with a number of its own in its name and in its statement."""
    originals = load_taskset("starter").tasks
    tasks = []
    for number in range(NUM_TASKS):
        task = originals[number % len(originals)]
        name = f"many/{task.task_id.rpartition('/')[2]}-{number:03}"
        statement = f"Ticket {number:03}. {task.problem_statement}"
        tasks.append(task.model_copy(update={"task_id": name, "problem_statement": statement}))
    folder.mkdir(parents=True)
    (folder / "taskset.toml").write_text('name = "many"\n')
    lines = (json.dumps(task.model_dump(mode="json")) for task in tasks)
    (folder / TASKS_FILE).write_text("".join(f"{line}\n" for line in lines))
    return tasks


def launch(studio: Studio, url: str, taskset: Path) -> str:
    headers = {"X-CSRFToken": studio.browser.cookies["csrftoken"], "Referer": studio.base}
    changes: dict[str, Any] = {
        "model": {"path": "m", "endpoint": url},
        "tasks": {"taskset": str(taskset), "split": "all"},
        "rollout": {"group_size": K, "max_turn_tokens": 700, "concurrency": 8},
    }
    data = {"name": "many", "num_shards": 2, "changes": changes}
    answer = studio.browser.post("/api/evaluations", json=data, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"/evaluations/{answer.json()['id']}"


def slowest_part_s(studio: Studio, path: str) -> float:
    """Processor time of the web server for that part of the page which takes most, with nothing in its cache yet."""
    (server,) = studio.processes("uvicorn")
    taken = []
    for part in ("/", "/figures.json", "/tasks/"):
        before = processor_time(server)
        answer = studio.browser.get(path + part)
        assert answer.status_code == 200, answer.text
        taken.append(processor_time(server) - before)
    return max(taken)


def processor_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.slow
def test_many_rollouts_are_stopped_and_completed_and_the_page_stays_quick(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "tasksets" / "many"
    tasks = make_taskset(folder)
    with (
        ScriptedEndpoint(tasks) as endpoint,
        running_studio(tmp_path, free_port(), ["false"], demo=False) as studio,
    ):
        subprocess.run(
            [sys.executable, "manage.py", "load_taskset", str(folder)],
            cwd=settings.BASE_DIR,
            env=os.environ | {"VAR_DIR": str(studio.var_dir)},
            check=True,
        )
        path = launch(studio, endpoint.url, folder)
        began = time.monotonic()
        studio.until(lambda: studio.api(path)["num_scored"] >= NUM_TASKS * K // 2, WAIT_S)
        studio.post(f"{path}/cancel")
        studio.until(lambda: studio.api(path)["status"] == "stopped", STOP_WITHIN_S)
        assert studio.processes("trainer.evaluate") == []
        studio.post(f"{path}/resume")
        studio.until(lambda: studio.api(path)["status"] == "finished", WAIT_S)
        took = time.monotonic() - began
        page_s = slowest_part_s(studio, path)
        results = studio.api(f"{path}/results?limit={NUM_TASKS * K}")
    print(f"\n{NUM_TASKS * K} rollouts in {took:.0f} s; the page takes {page_s * 1000:.0f} ms")
    places = [(row["task"], row["index"]) for row in results["results"]]
    assert places == sorted((task.task_id, index) for task in tasks for index in range(K))
    expected = [
        float(share_solved(task, seed_of(task, index))) for task in tasks for index in range(K)
    ]
    assert results["pass_at_1"]["value"] == pytest.approx(sum(expected) / len(expected))
    assert page_s < PAGE_WITHIN_S
