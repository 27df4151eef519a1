"""Training in pods: what a cluster is asked for, and whole runs of two pods whose processes are real, on a stand-in cluster."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.kubernetes.api import Api, ApiError
from sandbox.kubernetes.options import KubernetesOptions
from tests.trainer.conftest import MakeConfig
from tests.trainer.running_trainer import (
    EXIT_TIMEOUT_S,
    MARK,
    ROOT,
    START_TIMEOUT_S,
    Run,
    assert_gapless,
    assert_stopped,
    last,
    of,
    write_config,
)
from tests.trainer.stand_in_cluster import StandInCluster, serving
from trainer import kubernetes_launch
from trainer.config import ConfigError
from trainer.events import Finished, Resumed, RolloutStarted, StepEnded
from trainer.nodes.ending import EXIT_RANK_LOST
from trainer.nodes.kubernetes_pods import TrainingPods, read_template

DEPLOY = ROOT / "deploy" / "training"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInCluster]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    cluster = StandInCluster(tmp_path / "pods.log")
    with serving(cluster, tmp_path / "kubeconfig"):
        yield cluster


@pytest.fixture
def api(cluster: StandInCluster) -> Api:
    return Api(KubernetesOptions(namespace="training", kubeconfig=os.environ["KUBECONFIG"]))


@pytest.fixture
def run(run_config: MakeConfig, tmp_path: Path) -> Iterator[Run]:
    """Three steps of the tiny model on two nodes."""
    config = run_config(
        num_steps=3,
        hardware={"nodes": 2},
        rollout={"max_turn_tokens": 16, "max_response_tokens": 300},
        algorithm={"entropy_coef": 0.01, "compact_filtering": []},
    )
    run = Run(write_config(config, tmp_path / "run"), "trainer.kubernetes_launch")
    yield run
    run.end()


def template(run: Run) -> dict[str, Any]:
    """Of pods that are processes here."""
    environment = os.environ | {MARK: run.mark, "OMP_NUM_THREADS": "1"}
    container = {
        "name": "trainer",
        "command": [sys.executable, "-m", "trainer"],
        "workingDir": str(ROOT),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    return {
        "kind": "Pod",
        "metadata": {"namespace": "training"},
        "spec": {"containers": [container]},
    }


def test_a_lost_pod_has_the_run_started_again_and_a_stop_saves_it(
    cluster: StandInCluster, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(template(run)))
    start = ("--template", str(tmp_path / "pod.yaml"))
    run.start(*start)
    run.until(lambda e: isinstance(e, RolloutStarted) and e.step == 2)
    assert len(cluster.services) == 1
    list(cluster.pods.values())[1].kill()
    assert run.wait(EXIT_TIMEOUT_S) == -signal.SIGKILL, run.output()
    assert not of(Finished, run.events())
    assert (cluster.pods, cluster.services, run.processes()) == ({}, {}, [])

    run.start(*start)
    run.until(lambda e: isinstance(e, Resumed))
    resumed = of(Resumed, run.events())[0]
    run.until(lambda e: isinstance(e, RolloutStarted) and e.seq > resumed.seq)
    run.signal(signal.SIGTERM)
    assert run.wait(EXIT_TIMEOUT_S) == 0, run.output()
    stopped_at = last(run.events()).step
    assert_stopped(run, at_step=stopped_at)
    assert (cluster.pods, cluster.services) == ({}, {})

    run.start(*start)
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    assert [e.from_step for e in of(Resumed, events)] == [1, stopped_at]
    assert [(e.step, e.updated) for e in of(StepEnded, events)] == [
        (1, True),
        (2, True),
        (3, True),
    ]
    assert last(events).status == "finished"
    assert len(cluster.made) == 6
    assert (cluster.pods, cluster.services, run.left_behind()) == ({}, {}, [])


SAVES_WHEN_TOLD = """
import pathlib, signal, sys
from trainer.events import EventWriter, Finished, LogLine
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
events = EventWriter(pathlib.Path(sys.argv[1]))
events.write(LogLine(level="info", text="listening"))
signal.sigwait([signal.SIGTERM])
events.write(Finished(status="stopped", reason="stopped on request", step=1))
"""


def test_a_pod_that_the_cluster_ends_has_the_run_started_again_though_it_saved(
    cluster: StandInCluster, api: Api, run: Run
) -> None:
    evicted = template(run)
    evicted["spec"]["containers"][0]["command"] = [sys.executable, "-c", SAVES_WHEN_TOLD]
    pods = TrainingPods(run_dir=run.folder, template=evicted, num_nodes=1)

    def ends(stopping: bool) -> int:
        asked, before = threading.Event(), len(run.events())
        with ThreadPoolExecutor(1) as threads:
            launched = threads.submit(
                kubernetes_launch.launch, pods, api, [str(run.folder)], asked.is_set
            )
            while len(run.events()) == before:
                time.sleep(0.02)
            if stopping:
                asked.set()
            else:
                cluster.pods[f"{pods.name}-0"].delete()
            return launched.result()

    assert ends(stopping=False) == EXIT_RANK_LOST
    assert ends(stopping=True) == 0
    assert (cluster.pods, cluster.services) == ({}, {})


def test_a_pod_that_no_node_takes_ends_the_run_with_the_reason(
    cluster: StandInCluster, api: Api, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_launch, "START_TIMEOUT_S", 0.5)
    cluster.nodes = 0
    pods = TrainingPods(run_dir=run.folder, template=template(run), num_nodes=2)
    with pytest.raises(
        kubernetes_launch.PodsPending, match=r"-0: no node fits; .*-1: no node fits"
    ):
        kubernetes_launch.launch(pods, api, [], lambda: False)
    assert (cluster.pods, cluster.services) == ({}, {})


def test_a_pod_on_a_node_that_does_not_answer_is_given_up_after_its_grace(
    cluster: StandInCluster, api: Api, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_launch, "NODE_LOST_S", 0.5)
    pods = TrainingPods(run_dir=run.folder, template=template(run), num_nodes=2)
    pods.template["spec"]["terminationGracePeriodSeconds"] = 0.5
    cluster.nodes = 0
    for pod in pods.pods([]):
        cluster.create_pod(pod)
    cluster.pods[f"{pods.name}-1"].on_lost_node = True
    began = time.monotonic()
    kubernetes_launch.remove(pods, api)
    assert cluster.pods == {}
    assert time.monotonic() - began > 1.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both loops of repetitions without their pauses."""
    monkeypatch.setattr("sandbox.kubernetes.api._FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(kubernetes_launch, "LOOK_EVERY_S", 0.02)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [503, 429, 409])
def test_pods_are_removed_though_the_api_server_is_away_for_longer_than_a_call(
    cluster: StandInCluster, api: Api, run: Run, status: int
) -> None:
    pods = TrainingPods(run_dir=run.folder, template=template(run), num_nodes=2)
    pods.template["spec"]["terminationGracePeriodSeconds"] = 0.5
    cluster.nodes = 0
    for pod in pods.pods([]):
        cluster.create_pod(pod)
    cluster.refusals = [status] * 15
    kubernetes_launch.remove(pods, api)
    assert (cluster.pods, cluster.refusals) == ({}, [])


@pytest.mark.usefixtures("impatient")
def test_the_removal_of_pods_ends_with_an_error_of_ours_at_once_and_of_the_servers_in_time(
    cluster: StandInCluster, api: Api, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = TrainingPods(run_dir=run.folder, template=template(run), num_nodes=1)
    cluster.refusals = [400]
    with pytest.raises(ApiError, match="400: away"):
        kubernetes_launch.remove(pods, api)
    monkeypatch.setattr(kubernetes_launch, "AWAY_S", 0.2)
    cluster.refusals = [503] * 10_000
    with pytest.raises(ApiError, match="503: away"):
        kubernetes_launch.remove(pods, api)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [503, 429, 409])
def test_pods_are_made_though_the_api_server_is_away_for_longer_than_a_call(
    cluster: StandInCluster, api: Api, run: Run, status: int
) -> None:
    pods = TrainingPods(run_dir=run.folder, template=template(run), num_nodes=2)
    pods.template["spec"]["containers"][0]["command"] = ["true"]
    # made by a call whose answer was lost
    kubernetes_launch._create(api, "services", pods.service(), lambda: False)
    kubernetes_launch._create(api, "services", pods.service(), lambda: False)
    cluster.creation_refusals = [status] * 15
    kubernetes_launch.launch(pods, api, [], lambda: False)
    names = [pod["metadata"]["name"] for pod in pods.pods([])]
    assert (cluster.made, cluster.creation_refusals) == (names, [])


@pytest.mark.usefixtures("impatient")
def test_a_stop_ends_the_making_of_pods_while_the_api_server_is_away(
    cluster: StandInCluster, api: Api, run: Run
) -> None:
    pods = TrainingPods(run_dir=run.folder, template=template(run), num_nodes=2)
    cluster.creation_refusals = [503] * 10_000
    with pytest.raises(ApiError, match="503: away"):
        kubernetes_launch.launch(pods, api, [], lambda: len(cluster.creation_refusals) < 9_980)
    assert cluster.made == []


def test_pods_are_the_template_with_a_place_in_the_run() -> None:
    """The one that is shipped."""
    template = read_template(DEPLOY / "pod.yaml")
    pods = TrainingPods(run_dir=Path("/runs/one"), template=template, num_nodes=2)
    service, (first, second) = pods.service(), pods.pods(["/runs/one", "--run-id", "7"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    for number, pod in enumerate((first, second)):
        spec = pod["spec"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert pod["metadata"]["name"] == f"{pods.name}-{number}"
        assert (spec["hostname"], spec["subdomain"]) == (f"node-{number}", pods.name)
        assert (spec["restartPolicy"], spec["shareProcessNamespace"]) == ("Never", True)
        (container,) = spec["containers"]
        place = ["--node", str(number), "--rendezvous", f"node-0.{pods.name}:29400"]
        assert container["args"] == ["/runs/one", "--run-id", "7", *place]
        assert container["image"] == template["spec"]["containers"][0]["image"]
        assert spec["volumes"] == template["spec"]["volumes"]
    assert "args" not in template["spec"]["containers"][0]
    other = TrainingPods(run_dir=Path("/runs/two"), template=template, num_nodes=2)
    assert other.name != pods.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", "not readable as YAML"),
        ("kind: Job", "not a Pod"),
        ("kind: Pod\nspec: {containers: [{name: main}]}", "needs one with the name trainer"),
    ],
)
def test_a_template_that_does_not_do_is_refused_with_its_path(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as refused:
        read_template(path)
    assert str(path) in str(refused.value)


def test_the_shipped_role_may_do_what_the_launcher_does_and_no_more() -> None:
    things = yaml.safe_load_all((DEPLOY / "rbac.yaml").read_text())
    (role,) = [thing for thing in things if thing["kind"] == "Role"]
    allowed = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert allowed == {
        *(("pods", verb) for verb in ("create", "list", "deletecollection")),
        *(("services", verb) for verb in ("create", "delete")),
        ("pods", "get"),
        ("services", "get"),
    }
