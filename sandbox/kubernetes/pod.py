"""The manifests the Kubernetes backend creates: a sandbox's pod, and the per-run object that owns it.

Pure: specification in, plain dicts out. What `sandbox.labels` says of a sandbox are annotations, since Kubernetes
refuses some of those values as labels (a colon, a long name); labels hold what a selector needs.
"""

import hashlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.image_base import BLANK, OUTSIDE_TESTS
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.status import CONTAINER
from sandbox.labels import LABEL, label_map
from sandbox.snapshot import room_for
from sandbox.tool_folder import TOOL_FOLDER

PREFIX = LABEL
VOLUME = "disk"
SCRATCH_VOLUME = "scratch"
KEEP_ALIVE = "trap '' CHLD; exec tail -f /dev/null"
"""Root's first process. Ignoring SIGCHLD makes the kernel reap orphans, which would count against the process limit;
of the shells only bash passes that on to `tail`.
"""
_CAPABILITIES = ("CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID")
"""Of root in the container alone: to lay out the folders, to become the agent, to end what it started."""
PRIVATE = "/run/studio"
"""Root's own folder: holds the termination message, which would be a file that anybody may fill."""
SCRATCH = "/run/deepswe"
"""Where a patch is made, out of the agent's reach, so that a full disk does not prevent it."""
FOLDERS: Mapping[str, str] = {
    "tmp": "/tmp",
    "home": "/home/agent",
    "shm": "/dev/shm",
    "private": PRIVATE,
}
"""Subfolder of the volume -> where it is mounted; the working tree beside these."""

OWNER_LIFETIME_S = 14 * 24 * 3600
"""A process makes pods for no longer than this; then a reaper on any host removes what owned them."""

Json = dict[str, Any]


def label_value(text: str) -> str:
    """`text` if it can be a label's value, else a hash of it."""
    if re.fullmatch(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?", text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def run_name(run: str, backend: str) -> str:
    """Of the object that owns the pods which one process makes for `run`."""
    return f"run-{hashlib.sha256(run.encode()).hexdigest()[:16]}-{backend}"


def labels_of(labels: SandboxLabels, backend: str) -> dict[str, str]:
    """What pods are selected by. `backend` is the process that made them."""
    return {
        f"{PREFIX}/sandbox": "true",
        f"{PREFIX}/backend": backend,
        f"{PREFIX}/run": label_value(labels.run),
        f"{PREFIX}/rollout": label_value(labels.rollout),
    }


def run_object(labels: SandboxLabels, backend: str, lifetime_s: float = OWNER_LIFETIME_S) -> Json:
    """The ConfigMap that owns the pods which one process makes for a run: deleting it deletes them all."""
    name = run_name(labels.run, backend)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {f"{PREFIX}/owner-of-pods": "true"},
            "annotations": label_map(replace(labels, expires=time.time() + lifetime_s), name),
        },
    }


def owned_by(run: str, backend: str, uid: str) -> Json:
    """The reference to the ConfigMap of `run_object`, `uid` as the cluster has named it."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": run_name(run, backend), "uid": uid}


def pod_body(
    name: str,
    spec: SandboxSpec,
    options: KubernetesOptions,
    *,
    backend: str,
    owner_uid: str,
    git: bytes = b"",
) -> Json:
    """The pod of one sandbox, owned by its run's ConfigMap, with room for patches against `Base.git`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels_of(spec.labels, backend),
            "annotations": label_map(spec.labels, name),
            "ownerReferences": [owned_by(spec.labels.run, backend, owner_uid)],
        },
        "spec": _pod_spec(spec, options, ["bash", "-c", KEEP_ALIVE], room_for(git).size_mib),
    }


def _pod_spec(
    spec: SandboxSpec, options: KubernetesOptions, command: list[str], scratch_mib: int
) -> Json:
    """One hardened container that runs `command`, placed as `options` say."""
    placed: Json = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": options.max_lifetime_s,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "Default",
        "hostname": "sandbox",
        "securityContext": {"seccompProfile": _seccomp(options)},
        "nodeSelector": dict(options.node_selector),
        "tolerations": [dict(toleration) for toleration in options.tolerations],
        "volumes": [_memory(VOLUME, spec.disk_mib), _memory(SCRATCH_VOLUME, scratch_mib)],
        "containers": [_container(spec, options, command, scratch_mib)],
    }
    if options.runtime_class:
        placed["runtimeClassName"] = options.runtime_class
    if options.priority_class:
        placed["priorityClassName"] = options.priority_class
    if options.pull_secret:
        placed["imagePullSecrets"] = [{"name": options.pull_secret}]
    return placed


def _seccomp(options: KubernetesOptions) -> Json:
    if options.seccomp_profile:
        return {"type": "Localhost", "localhostProfile": options.seccomp_profile}
    return {"type": "RuntimeDefault"}


def _memory(name: str, size_mib: int) -> Json:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": f"{size_mib}Mi"}}


def _container(
    spec: SandboxSpec, options: KubernetesOptions, command: list[str], scratch_mib: int
) -> Json:
    return {
        "name": CONTAINER,
        "image": spec.docker_image,
        "imagePullPolicy": options.image_pull_policy,
        "command": command,
        "workingDir": "/",
        "terminationMessagePath": f"{PRIVATE}/termination",
        "resources": _resources(spec, options, scratch_mib),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": list(_CAPABILITIES)},
        },
        "volumeMounts": _mounts(spec),
    }


def _mounts(spec: SandboxSpec) -> list[Json]:
    folders = {"work": spec.workdir, **FOLDERS}
    mounts: list[Json] = [
        {"name": VOLUME, "mountPath": path, "subPath": sub} for sub, path in folders.items()
    ]
    mounts.append({"name": SCRATCH_VOLUME, "mountPath": SCRATCH, "subPath": "git"})
    mounts.append({"name": SCRATCH_VOLUME, "mountPath": TOOL_FOLDER, "subPath": "tools"})
    if not spec.files and spec.workdir != BLANK:
        # An empty folder over an image's hidden tests, but for where its repository is made ready.
        hidden = {"name": SCRATCH_VOLUME, "mountPath": OUTSIDE_TESTS, "subPath": "empty"}
        mounts.append({**hidden, "readOnly": True})
    return mounts


def _resources(spec: SandboxSpec, options: KubernetesOptions, scratch_mib: int) -> Json:
    """Requests equal limits but for processors, which a cluster may overcommit."""
    held = {
        # Files in memory-backed volumes count as memory of the pod.
        "memory": f"{spec.memory_mib + spec.disk_mib + scratch_mib}Mi",
        "ephemeral-storage": f"{options.ephemeral_storage_mib}Mi",
    }
    request = options.cpu_request or spec.cpus
    return {
        "requests": {**held, "cpu": f"{math.ceil(request * 1000)}m"},
        "limits": {**held, "cpu": f"{math.ceil(spec.cpus * 1000)}m"},
    }
