"""The manifests the Kubernetes backend creates: a sandbox's pod, and the per-run object that owns it.

Pure: specification in, plain dicts out. Exact label values that Kubernetes would refuse as labels (a colon, a long
name) are annotations; labels hold what a selector needs.
"""

import hashlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.kubernetes_options import KubernetesOptions
from sandbox.kubernetes_status import CONTAINER

PREFIX = "deepswe.studio"
VOLUME = "disk"
KEEP_ALIVE = "trap '' CHLD; exec tail -f /dev/null"
"""Root's first process. Ignoring SIGCHLD makes the kernel reap orphans, which would count against the process limit;
of the shells only bash passes that on to `tail`.
"""
_CAPABILITIES = ("CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID")
"""Of root in the container alone: to lay out the folders, to become the agent, to end what it started."""
PRIVATE = "/run/studio"
"""Root's own folder: holds the termination message, which would be a file that anybody may fill."""
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


def annotations_of(labels: SandboxLabels) -> dict[str, str]:
    return {
        f"{PREFIX}/run": labels.run,
        f"{PREFIX}/rollout": labels.rollout,
        f"{PREFIX}/attempt": str(labels.attempt),
        f"{PREFIX}/owner": labels.owner,
        f"{PREFIX}/expires": str(labels.expires),
    }


def run_object(labels: SandboxLabels, backend: str) -> Json:
    """The ConfigMap that owns the pods which one process makes for a run: deleting it deletes them all."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": run_name(labels.run, backend),
            "labels": {f"{PREFIX}/owner-of-pods": "true"},
            "annotations": annotations_of(replace(labels, expires=time.time() + OWNER_LIFETIME_S)),
        },
    }


def pod(
    name: str, spec: SandboxSpec, options: KubernetesOptions, *, backend: str, owner_uid: str
) -> Json:
    """The pod of one sandbox, owned by its run's ConfigMap."""
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": run_name(spec.labels.run, backend),
        "uid": owner_uid,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": labels_of(spec.labels, backend),
            "annotations": annotations_of(spec.labels),
            "ownerReferences": [owner],
        },
        "spec": pod_spec(spec, options, ["bash", "-c", KEEP_ALIVE]),
    }


def pod_spec(spec: SandboxSpec, options: KubernetesOptions, command: list[str]) -> Json:
    """One hardened container that runs `command`, placed as `options` say."""
    placed: Json = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": options.max_lifetime_s,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "Default",
        "hostname": "sandbox",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": dict(options.node_selector),
        "tolerations": [dict(toleration) for toleration in options.tolerations],
        "volumes": [
            {
                "name": VOLUME,
                "emptyDir": {"medium": "Memory", "sizeLimit": f"{spec.disk_mib}Mi"},
            }
        ],
        "containers": [_container(spec, options, command)],
    }
    if options.runtime_class:
        placed["runtimeClassName"] = options.runtime_class
    if options.priority_class:
        placed["priorityClassName"] = options.priority_class
    if options.pull_secret:
        placed["imagePullSecrets"] = [{"name": options.pull_secret}]
    return placed


def _container(spec: SandboxSpec, options: KubernetesOptions, command: list[str]) -> Json:
    folders = {"work": spec.workdir, **FOLDERS}
    return {
        "name": CONTAINER,
        "image": spec.docker_image,
        "imagePullPolicy": options.image_pull_policy,
        "command": command,
        "workingDir": "/",
        "terminationMessagePath": f"{PRIVATE}/termination",
        "resources": _resources(spec, options),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": list(_CAPABILITIES)},
        },
        "volumeMounts": [
            {"name": VOLUME, "mountPath": path, "subPath": sub} for sub, path in folders.items()
        ],
    }


def _resources(spec: SandboxSpec, options: KubernetesOptions) -> Json:
    """Requests equal limits but for processors, which a cluster may overcommit."""
    held = {
        # Files in the memory-backed volume count as memory of the pod.
        "memory": f"{spec.memory_mib + spec.disk_mib}Mi",
        "ephemeral-storage": f"{options.ephemeral_storage_mib}Mi",
    }
    request = options.cpu_request or max(1.0, spec.cpus)
    return {
        "requests": {**held, "cpu": f"{math.ceil(request * 1000)}m"},
        "limits": {**held, "cpu": f"{math.ceil(max(1.0, spec.cpus) * 1000)}m"},
    }
