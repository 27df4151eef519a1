"""What a pod's own status says about it: does it run, and if not, whose doing was that.

Pure: a pod as the API server gives it goes in. Every field read here is written by the cluster; the termination
message, which a process in the pod can write, is never read.
"""

from dataclasses import dataclass
from typing import Any

CONTAINER = "sandbox"
_UNSTARTABLE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
}
_NEVER_STARTS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_OWN_STORAGE = ("ephemeral", "emptydir")
"""Words in the kubelet's reason for evicting a pod that went over its own limit, not the node's."""


@dataclass(frozen=True, kw_only=True)
class PodStatus:
    """One look at a pod."""

    uid: str = ""
    running: bool = False
    """Its container runs and nobody has asked for its removal."""
    removed: bool = False
    """It is gone, or somebody has asked for its removal."""
    dead: str = ""
    """Why it will never run again; empty while it may."""
    oom: bool = False
    """Its first process was killed for lack of memory."""
    agents_doing: bool = False
    """It is dead by what ran in it: memory or disk of its own used up."""
    image_problem: str = ""
    ip: str = ""
    waiting: str = ""
    """What it waits for, before it runs."""


def read_status(pod: dict[str, Any], *, deleted: bool = False) -> PodStatus:
    """`deleted` when the API server no longer has it."""
    metadata, status = pod["metadata"], pod.get("status", {})
    state = _state_of(status)
    terminated, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    evicted = status.get("reason") == "Evicted"
    own_storage = evicted and _own_storage(status.get("message", ""))
    oom = terminated.get("reason") == "OOMKilled" and not evicted
    removed = deleted or "deletionTimestamp" in metadata
    return PodStatus(
        uid=metadata.get("uid", ""),
        running="running" in state and not removed and status.get("phase") == "Running",
        ip=status.get("podIP", ""),
        removed=removed,
        dead=_cause(status, terminated, removed, waiting),
        oom=oom,
        agents_doing=oom or own_storage,
        image_problem=image_problem(state),
        waiting=_sentence(waiting) or _unscheduled(status),
    )


def image_problem(state: dict[str, Any]) -> str:
    """Why a container in this state waits in vain for its image; empty when it does not."""
    waiting = state.get("waiting") or {}
    return _sentence(waiting) if waiting.get("reason") in _UNSTARTABLE else ""


def runs(pod: dict[str, Any]) -> bool:
    """Whether its container runs, be it being deleted or not."""
    return "running" in _state_of(pod.get("status", {}))


def _own_storage(message: str) -> bool:
    """The kubelet's sentence names a limit of the pod's own, not a shortage of the node's."""
    text = message.lower()
    return not text.startswith("the node ") and any(word in text for word in _OWN_STORAGE)


def _state_of(status: dict[str, Any]) -> dict[str, Any]:
    for container in status.get("containerStatuses") or []:
        if container["name"] == CONTAINER:
            state: dict[str, Any] = container.get("state") or {}
            return state
    return {}


def _cause(
    status: dict[str, Any], terminated: dict[str, Any], removed: bool, waiting: dict[str, Any]
) -> str:
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"{status['reason']}: {status.get('message', '')}".rstrip(": ")
    if terminated:
        return (
            f"its first process ended ({terminated.get('reason', 'no reason given')}, "
            f"exit code {terminated.get('exitCode')})"
        )
    if removed:
        return "the pod was deleted"
    if status.get("phase") in ("Failed", "Succeeded"):
        return f"the pod is {status['phase']}"
    return _sentence(waiting) if waiting.get("reason") in _NEVER_STARTS else ""


def _sentence(waiting: dict[str, Any]) -> str:
    return ": ".join(part for key in ("reason", "message") if (part := waiting.get(key, "")))


def _unscheduled(status: dict[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _sentence(condition)
    return ""
