"""Whose doing a pod's end was, told by the fields that a cluster writes; the statuses are as real ones have been seen."""

from typing import Any

import pytest

from sandbox.kubernetes.status import read_status


def pod(
    status: dict[str, Any], state: dict[str, Any] | None = None, **metadata: str
) -> dict[str, Any]:
    containers = [{"name": "sandbox", "state": state}] if state else []
    return {
        "metadata": {"uid": "u", **metadata},
        "status": {**status, "containerStatuses": containers},
    }


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def ended(reason: str, exit_code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": exit_code, "message": message}}


def test_a_pod_whose_container_runs_is_running() -> None:
    status = read_status(pod({"phase": "Running"}, RUNNING))
    assert (status.running, status.dead, status.agents_doing) == (True, "", False)


def test_a_pod_that_is_being_deleted_no_longer_runs() -> None:
    found = pod({"phase": "Running"}, RUNNING, deletionTimestamp="2026-01-01T00:00:00Z")
    status = read_status(found)
    assert (status.running, status.dead, status.agents_doing) == (
        False,
        "the pod was deleted",
        False,
    )


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Evicted", "The node was low on resource: memory. Container sandbox was using 1Gi."),
        ("Evicted", "The node was low on resource: ephemeral-storage."),
        ("Preempting", "Preempted in order to admit critical pod"),
        ("NodeLost", "Node n1 which was running pod p is unresponsive"),
        ("NodeShutdown", "Node is shutting, evicting pods"),
        ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"),
    ],
)
def test_what_the_cluster_does_to_a_pod_is_not_the_agents_doing(reason: str, message: str) -> None:
    status = read_status(pod({"phase": "Failed", "reason": reason, "message": message}))
    assert status.dead.startswith(reason)
    assert not status.agents_doing


@pytest.mark.parametrize(
    "message",
    [
        "Pod ephemeral local storage usage exceeds the total limit of containers 128Mi. ",
        'Usage of EmptyDir volume "disk" exceeds the limit "32Mi". ',
        "Container sandbox exceeded its local ephemeral storage limit 128Mi. ",
    ],
)
def test_a_pod_evicted_for_what_it_used_itself_is_the_agents_doing(message: str) -> None:
    found = pod({"phase": "Failed", "reason": "Evicted", "message": message}, ended("Error", 137))
    assert read_status(found).agents_doing


def test_a_first_process_killed_for_memory_is_told_from_one_killed_otherwise() -> None:
    oom = read_status(pod({"phase": "Failed"}, ended("OOMKilled", 137)))
    killed = read_status(pod({"phase": "Failed"}, ended("Error", 137)))
    assert (oom.oom, oom.agents_doing, bool(oom.dead)) == (True, True, True)
    assert (killed.oom, killed.agents_doing, bool(killed.dead)) == (False, False, True)


def test_the_termination_message_which_a_process_may_write_is_not_read() -> None:
    told = "OOMKilled Evicted ephemeral storage exceeds the limit"
    status = read_status(pod({"phase": "Failed"}, ended("Error", 1, told)))
    assert (status.oom, status.agents_doing) == (False, False)
    assert told not in status.dead


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_had_is_told_from_waiting(reason: str) -> None:
    waiting = {"waiting": {"reason": reason, "message": "no such image"}}
    assert (
        read_status(pod({"phase": "Pending"}, waiting)).image_problem == f"{reason}: no such image"
    )
    creating = {"waiting": {"reason": "ContainerCreating"}}
    assert read_status(pod({"phase": "Pending"}, creating)).image_problem == ""


def test_a_pod_that_fits_nowhere_says_what_it_waits_for() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
    }
    status = read_status(pod({"phase": "Pending", "conditions": [condition]}))
    assert status.waiting.startswith("Unschedulable: 0/1 nodes")
    assert not status.dead
