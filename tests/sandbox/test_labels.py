"""Who may remove a container: leases, runs, and holders that are dead for certain."""

import subprocess
import sys
import time
from pathlib import Path

from sandbox.base import SandboxLabels
from sandbox.labels import LABEL, abandoned, holder, holder_is_dead, label_map, lease_name, lease_of

ROOT = Path(__file__).parents[2]


def labels(expires: float) -> dict[str, str]:
    made = SandboxLabels(run="a", rollout="r", owner="host:1", expires=expires)
    return label_map(made, "0123456789abcdef")


def test_what_its_living_holder_keeps_is_not_abandoned_until_its_lease_ends() -> None:
    assert not abandoned(labels(time.time() + 60))
    assert abandoned(labels(time.time() - 60))


def test_a_renewed_lease_counts_instead_of_the_first() -> None:
    assert not abandoned(labels(time.time() - 60), expires=time.time() + 60)
    assert abandoned(labels(time.time() + 60), expires=time.time() - 60)


def test_a_run_that_is_named_is_taken_whole_and_alone() -> None:
    assert abandoned(labels(time.time() + 60), run="a")
    assert not abandoned(labels(time.time() - 60), run="b")


def test_a_dead_holder_is_known_by_more_than_its_number() -> None:
    argv = [sys.executable, "-c", "from sandbox.labels import holder; print(holder())"]
    dead = subprocess.check_output(argv, cwd=ROOT, text=True).strip()
    assert holder_is_dead(dead)
    assert not holder_is_dead(holder())
    world, pid, started = holder().rsplit(" ", 2)
    assert holder_is_dead(f"{world} {pid} {int(started) + 1}"), "the number is used again"


def test_a_holder_of_another_machine_or_container_is_left_to_its_lease() -> None:
    world, pid, started = holder().rsplit(" ", 2)
    assert not holder_is_dead(f"another-boot pid:[1] {int(pid) + 1} {started}")
    assert not holder_is_dead("")


def test_a_lease_can_be_read_from_the_name_of_a_container() -> None:
    name = lease_name("0123456789abcdef", 1800000000.4)
    assert lease_of(f"/{name}") == 1800000000
    assert lease_of("/somebody-elses") is None
    assert labels(5.0)[LABEL] == "0123456789abcdef"
