"""A run of two pods, launched from the page: one pod is killed, and the run goes on from its checkpoint to its end.

Studio, browser, cluster and pods are real, and so is the work: a tiny random model under FSDP2 over gloo, one rank a pod,
rollouts by the transformers engine in sandboxes of a Docker engine of the test's own. No image with Python and torch is
made: on the node, which is this machine, pods have the image of the bundled tasks and this machine's interpreter and checkout.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from playwright.sync_api import Browser, Page, expect
from safetensors.torch import load_file

from sandbox.kubernetes.api import Api
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.rootfs import COMPOSED_IMAGE
from tests.cluster.conftest import node, started_node
from tests.cluster.live import Node, Pods, wait_until
from tests.cluster.namespace import DEPLOY, TrainingNamespace, training_namespace
from tests.conftest import free_port
from tests.docker_engine import DockerEngine, running_engine
from tests.e2e.run_form import fill_in, signed_in
from tests.trainer.test_faults import Run, assert_gapless, last, of
from tests.trainer.tiny_model import make_tiny_model
from tests.web.running_studio import Studio, running_studio
from trainer.events import CheckpointSaved, Resumed, RolloutStarted, StepEnded
from trainer.nodes.kubernetes_pods import CONTAINER, TrainingPods, read_template

__all__ = ["node", "started_node"]

pytestmark = [pytest.mark.k8s, pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 600
CHANGES = {
    "name": "on two pods",
    "num_steps": "3",
    "model.dtype": "float32",
    "engine.kind": "transformers",
    "tasks.only": "",
    "tasks.limit": "2",
    "tasks.tasks_per_step": "2",
    "rollout.group_size": "2",
    "rollout.max_turns": "2",
    "rollout.max_turn_tokens": "16",
    "rollout.max_response_tokens": "300",
    "rollout.max_prompt_tokens": "1000",
    "rollout.concurrency": "4",
    "sandbox.concurrency": "2",
    "algorithm.entropy_coef": "0.01",
    "optimizer.learning_rate": "0.001",
    "evaluation.every_steps": "0",
    "checkpoint.every_steps": "1",
    "hardware.nodes": "2",
}
"""An entropy bonus and no filtering, so that a model which solves nothing takes real steps."""


@pytest.fixture
def training(kubernetes_options: dict[str, Any]) -> Iterator[TrainingNamespace]:
    with training_namespace(str(kubernetes_options["namespace"])) as namespace:
        yield namespace


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    """Where the run's sandboxes are made: one that pods find on this machine, as they find no API server."""
    with running_engine() as engine:
        yield engine


@pytest.fixture
def template(training: TrainingNamespace, engine: DockerEngine, tmp_path: Path) -> Path:
    """The one that is shipped, as this machine's only node needs it."""
    pod = read_template(DEPLOY / "training" / "pod.yaml")
    pod["metadata"]["namespace"] = training.name
    spec = pod["spec"]
    del spec["affinity"]  # a node each
    spec |= {"securityContext": {"runAsUser": 0}, "terminationGracePeriodSeconds": 60}
    memory = [volume for volume in spec["volumes"] if volume["name"] == "memory"]
    socket = engine.url.removeprefix("unix://")
    prefixes = [Path(sys.prefix).resolve(), Path(sys.base_prefix)]
    names = Path("/etc/nsswitch.conf")  # that of the image asks no name service
    shared = [ROOT, *prefixes, tmp_path, socket, names]
    spec["volumes"] = memory + [
        {"name": f"here-{number}", "hostPath": {"path": str(path)}}
        for number, path in enumerate(shared)
    ]
    (container,) = spec["containers"]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "memory"]
    environment = {"DOCKER_HOST": engine.url, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    container |= {
        "image": COMPOSED_IMAGE,
        "imagePullPolicy": "Never",
        "command": [sys.executable, "-m", "trainer"],
        "workingDir": str(ROOT),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {"limits": {"memory": "3Gi"}, "requests": {"cpu": "0.1"}},
        "volumeMounts": mounts
        + [
            {"name": f"here-{number}", "mountPath": str(path)} for number, path in enumerate(shared)
        ],
    }
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-model"
    make_tiny_model(folder)
    return folder


@pytest.fixture
def studio(template: Path, training: TrainingNamespace, tmp_path: Path) -> Iterator[Studio]:
    """Its worker launches pods, by the rights of the account for that alone."""
    launcher = [sys.executable, "-m", "trainer.kubernetes_launch", "--template", str(template)]
    environment = {"KUBECONFIG": str(training.kubeconfig), "TRAINER_NODES": "2"}
    with running_studio(tmp_path, free_port(), launcher, demo=False, **environment) as studio:
        yield studio


def launch(page: Page, studio: Studio, model: Path) -> str:
    """Fill in the form and send it; the run's id."""
    page.goto(f"{studio.base}/runs/new/?recipe=starter-cpu")
    page.locator(".backend", has_text="docker").click()
    fill_in(page, CHANGES | {"model.path": str(model)})
    for reason in ("max_context", "max_turns", "timeout"):
        page.locator(f'[name="algorithm.compact_filtering"][value="{reason}"]').uncheck()
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("heading", name=CHANGES["name"])).to_be_visible()
    return page.url.rstrip("/").rpartition("/")[2]


def named(api: Api, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in api.call("GET", api.path(kind))["items"]}


def test_a_run_of_two_pods_survives_the_loss_of_one(
    browser: Browser,
    studio: Studio,
    model: Path,
    template: Path,
    node: Node,
    engine: DockerEngine,
    training: TrainingNamespace,
) -> None:
    api = Api(KubernetesOptions(namespace=training.name))
    page = signed_in(browser, studio)
    run = Run(studio.var_dir / "runs" / launch(page, studio, model))
    pods = TrainingPods(run_dir=run.folder, template=read_template(template), num_nodes=2)
    both = {f"{pods.name}-0", f"{pods.name}-1"}

    def has_ended() -> bool:
        return studio.api(f"/runs/{run.folder.name}")["status"] in ("finished", "failed", "stopped")

    def trains_at(step: int) -> bool:
        return any(e.step == step for e in of(RolloutStarted, run.events()))

    studio.until(lambda: trains_at(2) or has_ended(), WAIT_S)
    assert (Pods(api).names(), named(api, "services")) == (both, {pods.name}), run.output()
    node.container(f"{pods.name}-1", CONTAINER).kill()

    studio.until(has_ended, WAIT_S)
    told = studio.api(f"/runs/{run.folder.name}")
    assert (told["status"], told["attempt"]) == ("finished", 2), run.output()
    events = run.events()
    assert_gapless(events)
    assert [(e.attempt, e.from_step) for e in of(Resumed, events)] == [(2, 1)]
    assert [(e.step, e.updated) for e in of(StepEnded, events)] == [
        (1, True),
        (2, True),
        (3, True),
    ]
    assert (last(events).status, last(events).step) == ("finished", 3)
    assert [e.step for e in of(CheckpointSaved, events)] == [1, 2, 3]
    trained = load_file(run.folder / "checkpoints" / "step_3" / "model" / "model.safetensors")
    untrained = load_file(model / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in trained.values())
    assert any(not torch.equal(trained[name].float(), untrained[name]) for name in untrained)

    page.reload()
    expect(page.locator("#run-header .status-finished")).to_be_visible()
    expect(page.locator("#run-header")).to_contain_text("attempt 2")
    expect(page.locator("#run-header")).to_contain_text(re.compile(r"3\s+of 3"))
    assert (Pods(api).names(), named(api, "services")) == (set(), set())
    wait_until(lambda: not engine.leftovers(), "a sandbox is left", 60)
