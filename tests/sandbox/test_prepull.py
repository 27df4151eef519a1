"""Waves of images, against a stand-in whose nodes pull as the script says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import SandboxUnavailable
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.prepull import Wave, prepull
from tests.sandbox.scripted_api import Answer, Script


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path)
    yield made
    made.close()


MADE: Answer = (201, [{}])


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
    first = [MADE, daemon_set(0), pods(), daemon_set(2), pods([HAS, WAITS], [WAITS, WAITS])]
    first += [daemon_set(2), pods([HAS, HAS], [HAS, HAS]), MADE]
    script.answers = [*first, MADE, daemon_set(2), pods([HAS], [HAS]), MADE]
    failed, seen = run(script, ["a", "b", "c", "a"])
    assert failed == {}
    assert [(w.number, w.num_waves, w.pulled, w.wanted) for w in seen] == [
        (1, 2, 0, 0),
        (1, 2, 1, 4),
        (1, 2, 4, 4),
        (2, 2, 2, 2),
    ]
    methods = [method for method, _ in script.requests if method != "GET"]
    assert methods == ["POST", "DELETE", "POST", "DELETE"]


def test_an_image_that_cannot_be_had_is_named_and_holds_up_nobody(script: Script) -> None:
    script.answers = [MADE, daemon_set(1), pods([HAS, LACKS]), MADE]
    failed, seen = run(script, ["a", "b"])
    assert failed == {"b": "ImagePullBackOff: no b"}
    assert seen[-1].over


def test_a_wave_that_takes_too_long_is_removed_and_says_which(script: Script) -> None:
    script.answers = [MADE, daemon_set(1), pods([WAITS, WAITS]), MADE]
    with pytest.raises(SandboxUnavailable, match=r"wave 1 of 1.*timeout_s=0.*a, b"):
        run(script, ["a", "b"], timeout_s=0)
    assert script.requests[-1][0] == "DELETE"
