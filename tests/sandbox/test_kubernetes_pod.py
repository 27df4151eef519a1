"""What a pod's manifest asks of the cluster, and that its first process leaves no orphan to count against a limit."""

import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox.base import SandboxSpec
from sandbox.image_base import BLANK, OUTSIDE_TESTS
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import KEEP_ALIVE, label_value, pod_body


def made(spec: SandboxSpec, **options: Any) -> dict[str, Any]:
    return pod_body("p", spec, KubernetesOptions(**options), backend="b", owner_uid="u")


def test_a_pod_asks_for_as_much_memory_and_disk_as_it_may_use(spec: SandboxSpec) -> None:
    resources = made(spec)["spec"]["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["memory"] == "224Mi"
    less = made(spec, cpu_request=0.25)["spec"]["containers"][0]["resources"]
    assert (less["requests"]["cpu"], less["limits"]["cpu"]) == ("250m", "1000m")


def test_a_pod_has_no_token_no_services_and_its_run_as_owner(spec: SandboxSpec) -> None:
    found = made(spec)
    assert found["spec"]["automountServiceAccountToken"] is False
    assert found["spec"]["enableServiceLinks"] is False
    assert found["spec"]["restartPolicy"] == "Never"
    assert found["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_what_an_administrator_asks_for_is_in_the_pod(spec: SandboxSpec) -> None:
    toleration = {"key": "sandboxes", "operator": "Exists"}
    found = made(
        spec,
        runtime_class="gvisor",
        node_selector={"pool": "cpu"},
        tolerations=(toleration,),
        priority_class="low",
        pull_secret="registry",
    )["spec"]
    assert (found["runtimeClassName"], found["priorityClassName"]) == ("gvisor", "low")
    assert found["nodeSelector"] == {"pool": "cpu"}
    assert found["tolerations"] == [toleration]
    assert found["imagePullSecrets"] == [{"name": "registry"}]


def test_labels_are_ones_that_kubernetes_takes_whatever_a_run_is_called(spec: SandboxSpec) -> None:
    odd = replace(spec, labels=replace(spec.labels, run="a run: " + "x" * 90, rollout="-"))
    for value in made(odd)["metadata"]["labels"].values():
        assert re.fullmatch(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]", value), value
    assert label_value("run-1") == "run-1"
    assert made(odd)["metadata"]["annotations"]["deepswe.studio.run"] == odd.labels.run


def test_the_first_process_ignores_the_death_of_children_so_that_the_kernel_reaps_them() -> None:
    with subprocess.Popen(["bash", "-c", KEEP_ALIVE]) as process:
        deadline = time.monotonic() + 10
        status = Path(f"/proc/{process.pid}/status")
        while "Name:\ttail" not in status.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        ignored = int(re.findall(r"SigIgn:\s*(\w+)", status.read_text())[0], 16)
        process.kill()
    assert ignored >> 16 & 1, "SIGCHLD is signal 17"


def test_an_images_hidden_tests_are_covered_but_where_its_repository_is_made_ready(
    spec: SandboxSpec,
) -> None:
    def covers(spec: SandboxSpec) -> list[Any]:
        mounts = made(spec)["spec"]["containers"][0]["volumeMounts"]
        return [mount.get("readOnly") for mount in mounts if mount["mountPath"] == OUTSIDE_TESTS]

    assert covers(replace(spec, files={})) == [True]
    assert covers(replace(spec, files={}, workdir=BLANK)) == covers(spec) == []


def test_a_seccomp_profile_of_the_nodes_is_used_where_one_is_named(spec: SandboxSpec) -> None:
    profile = {"type": "Localhost", "localhostProfile": "deepswe.json"}
    found = made(spec, seccomp_profile="deepswe.json")["spec"]["securityContext"]
    assert found["seccompProfile"] == profile
    assert made(spec)["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
