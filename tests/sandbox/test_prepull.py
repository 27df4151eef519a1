"""Waves of images, against a stand-in whose nodes pull as the script says."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import SandboxUnavailable
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import PREFIX
from sandbox.labels import LABEL, abandoned, holder
from sandbox.prepull import Wave, prepull
from tests.sandbox.scripted_api import Answer, Script

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path)
    yield made
    made.close()


MADE: Answer = (201, [{"metadata": {"uid": "u-1"}}])


def daemon_set(num_nodes: int) -> Answer:
    status = {"observedGeneration": 1, "desiredNumberScheduled": num_nodes} if num_nodes else {}
    return 200, [{"metadata": {"generation": 1}, "status": status}]


def pods(*nodes: list[dict[str, Any]]) -> Answer:
    """One pod a node; each container as `has`, `waits` or `lacks` say."""
    items = []
    for containers in nodes:
        named = [{"name": f"image-{n}", **state} for n, state in enumerate(containers)]
        items.append({"status": {"containerStatuses": named}})
    return 200, [{"items": items}]


HAS = {"imageID": "sha256:1", "state": {"running": {}}}
WAITS = {"imageID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}
LACKS = {"imageID": "", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no b"}}}


def run(
    script: Script, images: list[str], timeout_s: float = 30
) -> tuple[dict[str, str], list[Wave]]:
    seen: list[Wave] = []
    failed = prepull(
        script.api,
        images,
        KubernetesOptions(),
        wave_size=2,
        timeout_s=timeout_s,
        report=seen.append,
    )
    return failed, seen


def test_each_wave_is_removed_before_the_next_begins(script: Script) -> None:
    first = [MADE, MADE, daemon_set(0), pods(), daemon_set(2), pods([HAS, WAITS], [WAITS, WAITS])]
    first += [daemon_set(2), pods([HAS, HAS], [HAS, HAS]), MADE]
    script.answers = [*first, MADE, daemon_set(2), pods([HAS], [HAS]), MADE, MADE]
    failed, seen = run(script, ["a", "b", "c", "a"])
    assert failed == {}
    assert [(w.number, w.num_waves, w.pulled, w.wanted) for w in seen] == [
        (1, 2, 0, 0),
        (1, 2, 1, 4),
        (1, 2, 4, 4),
        (2, 2, 2, 2),
    ]
    methods = [method for method, _ in script.requests if method != "GET"]
    assert methods == ["POST", "POST", "DELETE", "POST", "DELETE", "DELETE"]


def test_an_image_that_cannot_be_had_is_named_and_holds_up_nobody(script: Script) -> None:
    script.answers = [MADE, MADE, daemon_set(1), pods([HAS, LACKS]), MADE]
    failed, seen = run(script, ["a", "b"])
    assert failed == {"b": "ImagePullBackOff: no b"}
    assert seen[-1].over


def test_a_wave_that_takes_too_long_is_removed_and_says_which(script: Script) -> None:
    script.answers = [MADE, MADE, daemon_set(1), pods([WAITS, WAITS]), MADE]
    with pytest.raises(SandboxUnavailable, match=r"wave 1 of 1.*timeout_s=0.*a, b"):
        run(script, ["a", "b"], timeout_s=0)
    assert [method for method, _ in script.requests[-2:]] == ["DELETE", "DELETE"]


def test_two_of_the_same_images_have_sets_of_their_own(script: Script) -> None:
    names = []
    for _ in range(2):
        script.answers = [MADE, MADE, daemon_set(1), pods([HAS]), MADE]
        run(script, ["a"])
        names.append(script.bodies[-1]["metadata"]["name"])
    assert names[0] != names[1]
    gone = [path.rpartition("/")[2] for path in script.paths if "/daemonsets/prepull-" in path]
    assert set(gone) == set(names)


def test_a_wave_is_owned_by_what_a_reaper_removes_when_its_process_is_dead(script: Script) -> None:
    script.answers = [MADE, MADE, daemon_set(1), pods([HAS]), MADE]
    run(script, ["a"])
    owner, wave = script.bodies
    (reference,) = wave["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"]) == ("ConfigMap", "u-1")
    assert reference["name"] == owner["metadata"]["name"]
    assert owner["metadata"]["labels"] == {f"{PREFIX}/owner-of-pods": "true"}
    assert not abandoned(owner["metadata"]["annotations"])
    dead = {f"{LABEL}.holder": holder().rpartition(" ")[0] + " 0"}
    assert abandoned({**owner["metadata"]["annotations"], **dead})


def test_a_prepull_that_is_terminated_removes_its_wave_first(script: Script) -> None:
    script.answers = [MADE, MADE, daemon_set(1), pods([WAITS])]
    argv = ["-m", "sandbox.prepull", "--kubeconfig", str(script.kubeconfig), "a"]
    with subprocess.Popen([sys.executable, *argv], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        script.answers += [daemon_set(1), pods([WAITS])] * 40
        assert process.stdout.readline() == b"wave 1/1: 0/1 pulled\n"
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    kinds = [path.split("/")[-2] for path in script.paths[-2:]]
    assert [method for method, _ in script.requests[-2:]] == ["DELETE", "DELETE"]
    assert kinds == ["daemonsets", "configmaps"]
