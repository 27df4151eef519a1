"""Removal of pods that nobody may keep any more, told by what is written on them (`sandbox.labels`).

The cluster itself ends every pod at its own deadline and removes those whose run's object is gone; this is for before that.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from sandbox.base import ReapReport, Recorded
from sandbox.kubernetes.api import Api, ApiError, Json
from sandbox.kubernetes.pod import PREFIX
from sandbox.kubernetes.status import runs
from sandbox.labels import LABEL, abandoned, holder_is_dead, recorded

log = logging.getLogger(__name__)

_GONE_TIMEOUT_S = 90.0
"""How long a node may take to end a pod that was deleted: a kubelet that has missed a deletion looks again once a minute (its
`syncFrequency`). Above, the pod is reported as an error.
"""
_POLL_S = 1.0


def reap_pods(api: Api, run: str | None) -> ReapReport:
    """Remove what `sandbox.labels.abandoned` says, and wait until nothing of it runs. Raises ApiError."""
    pods = _labelled(api, "pods", "sandbox")
    owners = _labelled(api, "configmaps", "owner-of-pods")
    deleted, errors = _delete_pods(api, _abandoned(pods, run), run)
    _, owner_errors = _delete_each(api, "configmaps", _names(_abandoned(owners, run)))
    left = _await_end(api, set(deleted))
    errors += [f"sandbox {name}: deleted, but its node has not ended it yet" for name in left]
    removed = tuple(name for name in deleted if name not in left)
    return ReapReport(examined=len(pods), removed=removed, errors=(*errors, *owner_errors))


def recorded_pods(api: Api) -> tuple[Recorded, ...]:
    """Every pod that is not on its way out already. Raises ApiError."""
    found = (pod["metadata"] for pod in _labelled(api, "pods", "sandbox"))
    return tuple(recorded(m["annotations"]) for m in found if "deletionTimestamp" not in m)


def _labelled(api: Api, kind: str, label: str) -> list[Json]:
    selector = {"labelSelector": f"{PREFIX}/{label}=true"}
    found: list[Json] = api.call("GET", api.path(kind), query=selector)["items"]
    return found


def _abandoned(things: Sequence[Json], run: str | None) -> list[Json]:
    return [
        thing
        for thing in things
        if "deletionTimestamp" not in thing["metadata"]
        and abandoned(thing["metadata"]["annotations"], run=run)
    ]


def _names(things: Sequence[Json]) -> list[str]:
    return [thing["metadata"]["name"] for thing in things]


def _delete_pods(api: Api, pods: Sequence[Json], run: str | None) -> tuple[list[str], list[str]]:
    """Those of one run, or of one dead process, by one call; names of the deleted, and errors."""
    together = defaultdict(list)
    for pod in pods:
        together[_selector(pod, run)].append(pod)
    deleted, errors = _delete_each(api, "pods", _names(together.pop("", [])))
    for selector, group in together.items():
        names = _names(group)
        error = _delete_selected(api, selector)
        if error:
            errors += [f"sandbox {name}: {error}" for name in names]
        else:
            deleted += names
    return deleted, errors


def _selector(pod: Json, run: str | None) -> str:
    """Of pods that may all be deleted; empty when only this one may: the lease of another can be renewed meanwhile."""
    labels = pod["metadata"]["labels"]
    if run is not None:
        return f"{PREFIX}/run={labels[f'{PREFIX}/run']}"
    if holder_is_dead(pod["metadata"]["annotations"].get(f"{LABEL}.holder", "")):
        return f"{PREFIX}/backend={labels[f'{PREFIX}/backend']}"
    return ""


def _delete_selected(api: Api, selector: str) -> str:
    """Why the pods are still there; empty when they are on their way out."""
    query = {"labelSelector": f"{PREFIX}/sandbox=true,{selector}"}
    try:
        api.call("DELETE", api.path("pods"), query=query)
    except ApiError as error:
        return str(error)
    return ""


def _delete_each(api: Api, kind: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    deleted, errors = [], []
    for name in names:
        error = delete(api, kind, name)
        if error:
            errors.append(f"sandbox {name}: {error}")
        else:
            deleted.append(name)
    return deleted, errors


def _await_end(api: Api, names: set[str]) -> set[str]:
    """Those of these pods that still run after a while: one that is being deleted takes commands yet."""
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    left = names
    while left and time.monotonic() < deadline:
        pods = _labelled(api, "pods", "sandbox")
        left = names & {pod["metadata"]["name"] for pod in pods if runs(pod)}
        if left:
            time.sleep(_POLL_S)
    return left


def delete(api: Api, kind: str, name: str, *, group: str = "api/v1") -> str:
    """Why it is still there; empty when it is not, or is on its way out."""
    try:
        api.call(
            "DELETE", api.path(kind, name, group=group), query={"propagationPolicy": "Background"}
        )
    except ApiError as error:
        if error.status != 404:
            log.warning("%s %s not removed; a reaper will try again: %s", kind, name, error)
            return str(error)
    return ""
