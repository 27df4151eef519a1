"""R2E-layout tasks evaluated in pods by one API call: one of two workers is killed half-way, a pod is evicted, and the
aggregate is that of an undisturbed evaluation, since what the model says depends on task and seed alone.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from sandbox.kubernetes.api import Api, ApiError
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.load import main as load
from sandbox.task import load_taskset
from tests.cluster.live import Pods, wait_until
from tests.conftest import free_port
from tests.images.rows import PUBLISHED
from tests.trainer.scripted_endpoint import ScriptedEndpoint, share_solved
from tests.trainer.test_evaluate import seed_of
from tests.web.running_studio import Studio, running_studio
from webapp import settings

pytestmark = [pytest.mark.k8s, pytest.mark.slow]
WAIT_S = 900
K = 2
NUM_TASKS = 12
SECOND = "second@%h"
LENGTHS = {"max_prompt_tokens": 8000, "max_response_tokens": 8000, "max_turn_tokens": 2000}


@pytest.fixture
def environment(kubernetes_options: dict[str, Any], nodes: None, tmp_path: Path) -> dict[str, str]:
    """That of workers which make sandboxes on the cluster."""
    said = tmp_path / "options.toml"
    said.write_text(tomli_w.dumps({"kubernetes": kubernetes_options}))
    return {"SANDBOX_OPTIONS": str(said), "KUBECONFIG": str(kubernetes_options["kubeconfig"])}


@contextmanager
def second_worker(studio: Studio, environment: dict[str, str]) -> Iterator[None]:
    """A worker of the queue `evaluate` beside the studio's own; it dies with a test."""
    command = [sys.executable, "-m", "celery", "--app", "webapp", "worker", "--pool", "threads"]
    command += ["--queues", "evaluate", "--hostname", SECOND, "--loglevel", "WARNING"]
    inherited = {"PATH": os.environ["PATH"], "VAR_DIR": str(studio.var_dir)}
    with subprocess.Popen(command, cwd=settings.BASE_DIR, env=inherited | environment) as worker:
        try:
            yield
        finally:
            worker.kill()


def launch(studio: Studio, url: str, taskset: str) -> str:
    headers = {"X-CSRFToken": studio.browser.cookies["csrftoken"], "Referer": studio.base}
    changes: dict[str, Any] = {
        "model": {"path": "m", "endpoint": url},
        "tasks": {"taskset": taskset, "split": "all", "limit": NUM_TASKS},
        "rollout": {"group_size": K, "concurrency": 3} | LENGTHS,
        "engine": {"max_model_len": 40_000},
        "sandbox": {"backend": "kubernetes", "concurrency": 3},
    }
    data = {"name": "on a cluster", "num_shards": 2, "changes": changes}
    answer = studio.browser.post("/api/evaluations", json=data, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"/evaluations/{answer.json()['id']}"


def evict(pods: Pods) -> str:
    """One pod that runs, by the cluster's own eviction; its name."""
    name = min(pods.names(ending=False))
    path = f"{pods.api.path('pods', name)}/eviction"
    about = {"name": name, "namespace": pods.api.namespace}
    for version in ("policy/v1", "policy/v1beta1"):
        body = {"apiVersion": version, "kind": "Eviction", "metadata": about}
        try:
            pods.api.call("POST", path, body=body)
        except ApiError as error:
            if version == "policy/v1beta1" or error.status not in (400, 404):
                raise
        else:
            break
    return name


def test_a_killed_worker_and_an_evicted_pod_change_nothing_of_the_result(
    environment: dict[str, str], kubernetes_options: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "var" / "tasksets" / "published"
    assert load([str(PUBLISHED / "r2e.jsonl"), "--name", "published", str(folder)]) == 0
    tasks = load_taskset(str(folder)).tasks[:NUM_TASKS]
    pods = Pods(Api(KubernetesOptions(namespace=str(kubernetes_options["namespace"]))))
    with (
        ScriptedEndpoint(tasks) as endpoint,
        running_studio(tmp_path, free_port(), ["false"], demo=False, **environment) as studio,
        second_worker(studio, environment),
    ):
        subprocess.run(
            [sys.executable, "manage.py", "load_taskset", str(folder)],
            cwd=settings.BASE_DIR,
            env=os.environ | {"VAR_DIR": str(studio.var_dir)},
            check=True,
        )
        studio.until(lambda: len(studio.api("/health")["workers"]) == 2)
        path = launch(studio, endpoint.url, str(folder))
        studio.until(lambda: studio.api(path)["num_scored"] >= NUM_TASKS // 2, WAIT_S)
        endpoint.answering.clear()
        studio.until(lambda: pods.names(ending=False))
        evict(pods)
        studio.kill("celery")
        endpoint.answering.set()
        studio.until(lambda: studio.api(path)["status"] in ("finished", "failed"), WAIT_S)
        results = studio.api(f"{path}/results")
        assert studio.api(path)["status"] == "finished", studio.api(path)["reason"]
        wait_until(lambda: pods.names() == set(), "a pod is left", 120)
    places = [(row["task"], row["index"]) for row in results["results"]]
    assert places == sorted((task.task_id, index) for task in tasks for index in range(K))
    expected = {
        (t.task_id, i): float(share_solved(t, seed_of(t, i))) for t in tasks for i in range(K)
    }
    assert {(row["task"], row["index"]): row["reward"] for row in results["results"]} == expected
    assert results["pass_at_1"]["value"] == pytest.approx(sum(expected.values()) / len(expected))
