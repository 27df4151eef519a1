"""Removal of pods that nobody may keep any more, told by what is written on them: expiry, owner, run.

The cluster itself ends every pod at its own deadline and removes those whose run's object is gone; this is for before that.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence

from sandbox.base import ReapReport
from sandbox.kubernetes_api import Api, ApiError, Json
from sandbox.kubernetes_pod import PREFIX

log = logging.getLogger(__name__)


def reap_pods(api: Api, run: str | None) -> ReapReport:
    """Remove what is expired or whose owner on this host is dead; with `run`, all of that run's. Raises ApiError."""
    pods = _labelled(api, "pods", "sandbox")
    owners = _labelled(api, "configmaps", "owner-of-pods")
    removed, errors = _remove(api, "pods", pods, run)
    _, owner_errors = _remove(api, "configmaps", owners, run)
    return ReapReport(examined=len(pods), removed=tuple(removed), errors=(*errors, *owner_errors))


def _labelled(api: Api, kind: str, label: str) -> list[Json]:
    selector = {"labelSelector": f"{PREFIX}/{label}=true"}
    found: list[Json] = api.call("GET", api.path(kind), query=selector)["items"]
    return found


def _remove(
    api: Api, kind: str, found: Sequence[Json], run: str | None
) -> tuple[list[str], list[str]]:
    removed, errors = [], []
    for thing in found:
        metadata = thing["metadata"]
        if "deletionTimestamp" in metadata or not _abandoned(metadata["annotations"], run):
            continue
        error = delete(api, kind, metadata["name"])
        if error:
            errors.append(f"sandbox {metadata['name']}: {error}")
        else:
            removed.append(metadata["name"])
    return removed, errors


def _abandoned(annotations: Mapping[str, str], run: str | None) -> bool:
    if run is not None:
        return annotations.get(f"{PREFIX}/run") == run
    if float(annotations.get(f"{PREFIX}/expires", "0")) < time.time():
        return True
    host, _, pid = annotations.get(f"{PREFIX}/owner", "").rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and not os.path.exists(f"/proc/{pid}")  # noqa: PTH110


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
