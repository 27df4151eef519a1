"""deploy/ fits its schemas and itself: every queue has a worker, every setting exists, no pod may do more than it must.

Nothing is built or started here; that takes an engine or a cluster.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SANDBOXES = ROOT / "deploy" / "kubernetes"
STUDIO = SANDBOXES / "studio"
MANIFESTS = [*sorted(SANDBOXES.glob("*.yaml")), *sorted(STUDIO.glob("[!k]*.yaml"))]
OLDEST, NEWEST = "1.30.0", "1.37.0"
QUEUES = {"default", "evaluate", "train"}
TARGETS = {"studio-web": "web", "studio-worker": "worker", "studio-gpu": "gpu"}
SECRETS = {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}


@cache
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def objects(*paths: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from yaml.safe_load_all(path.read_text())


def pods() -> dict[str, dict[str, Any]]:
    """Name of what makes them -> their specification."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {
        thing["metadata"]["name"]: thing["spec"]["template"]["spec"]
        for thing in objects(*MANIFESTS)
        if thing["kind"] in kinds
    }


def known_variables() -> set[str]:
    """What settings.py or a client library reads; a documented name is one."""
    table = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    clients = {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"}
    clients |= {"AWS_SECRET_ACCESS_KEY", "DOCKER_HOST", "SANDBOX_OPTIONS"}
    return {*table, *clients}


def queues(command: list[str]) -> set[str]:
    return (
        set(command[command.index("--queues") + 1].split(",")) if "--queues" in command else set()
    )


# ---- Compose


def test_the_compose_file_fits_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout


def test_a_service_waits_on_services_and_mounts_volumes_that_there_are() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        assert set(service.get("networks", [])) <= set(compose()["networks"]), name
        for mount in service.get("volumes", []):
            assert mount.partition(":")[0] in volumes, name


def test_compose_has_a_worker_for_every_queue_and_knows_every_variable() -> None:
    ours = {name: s for name, s in compose()["services"].items() if "build" in s}
    served = [queues(service.get("command", [])) for service in ours.values()]
    assert set().union(*served) == QUEUES
    for name, service in ours.items():
        assert set(service["environment"]) <= known_variables(), name
        assert service["environment"].keys() >= SECRETS, name
        target = service["build"]["target"]
        assert f"AS {target}\n" in DOCKERFILE, name


def test_compose_shares_no_run_folder_and_only_workers_reach_the_engine() -> None:
    services = compose()["services"]
    assert services["web"]["volumes"] == ["media:/var/lib/studio/media"]
    on_engine = {name for name, s in services.items() if "engine" in s.get("networks", [])}
    assert on_engine == {"engine", "default", "evaluate", "train", "train-gpu"}
    assert [name for name, s in services.items() if s.get("privileged")] == ["engine"]
    assert "docker.sock:" not in COMPOSE.read_text()


# ---- Kubernetes


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.relative_to(SANDBOXES).as_posix())
def test_every_object_fits_the_schema_of_its_kind(path: Path, version: str) -> None:
    for thing in objects(path):
        kubernetes_validate.validate(thing, version, strict=True)


def test_the_schemas_refuse_what_is_no_field() -> None:
    thing = next(objects(STUDIO / "web.yaml"))
    thing["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(thing, NEWEST, strict=True)


def test_kustomize_takes_every_file_and_image() -> None:
    (kustomization,) = objects(STUDIO / "kustomization.yaml")
    files = {path.name for path in STUDIO.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    used = {spec["containers"][0]["image"] for spec in pods().values()}
    assert {image["name"] for image in kustomization["images"]} == used
    assert all(f"AS {TARGETS[image]}\n" in DOCKERFILE for image in used)


def test_the_cluster_has_a_worker_for_every_queue_and_knows_every_variable() -> None:
    commands = {name: spec["containers"][0].get("command", []) for name, spec in pods().items()}
    assert set().union(*map(queues, commands.values())) == QUEUES
    assert queues(commands["train"]) == {"train"}
    assert "nvidia.com/gpu" in pods()["train"]["containers"][0]["resources"]["limits"]
    said: set[str] = set()
    for thing in objects(STUDIO / "config.yaml"):
        said |= {name for name in thing["data"] if name.isupper()}
    for spec in pods().values():
        said |= {variable["name"] for variable in spec["containers"][0].get("env", [])}
    assert said <= known_variables()


def test_no_pod_runs_as_root_or_may_become_more() -> None:
    """What the namespace's `restricted` demands, and a read-only root besides."""
    assert set(pods()) == {"migrate", "web", "beat", "default", "evaluate", "train"}
    for name, spec in pods().items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name


def test_workers_may_make_sandbox_pods_and_nothing_else() -> None:
    rights = [thing for thing in objects(*MANIFESTS) if "rbac" in thing["apiVersion"]]
    assert {thing["kind"] for thing in rights} == {"Role", "RoleBinding"}
    assert {thing["metadata"]["namespace"] for thing in rights} == {"deepswe-sandboxes"}
    (role,) = (thing for thing in rights if thing["kind"] == "Role")
    resources = {name for rule in role["rules"] for name in rule["resources"]}
    assert resources == {"pods", "pods/exec", "configmaps", "daemonsets"}
    assert not any("*" in values for rule in role["rules"] for values in rule.values())
    bound = {
        (subject["kind"], subject["name"], subject["namespace"])
        for thing in rights
        for subject in thing.get("subjects", [])
    }
    assert bound == {
        ("ServiceAccount", "sandbox-maker", "deepswe-sandboxes"),
        ("ServiceAccount", "worker", "deepswe-studio"),
    }


def test_only_workers_have_an_account_of_the_cluster() -> None:
    with_account = {name for name, spec in pods().items() if "serviceAccountName" in spec}
    assert with_account == {"default", "evaluate", "train"}
    for name, spec in pods().items():
        assert (spec.get("automountServiceAccountToken") is False) == (name not in with_account)


# ---- images


def test_the_dockerfile_copies_what_there_is_and_the_builder_gets_it() -> None:
    sent = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in sent or f"{source.partition('/')[0]}/*.txt" in sent, source


def test_the_web_image_has_what_the_web_server_imports() -> None:
    """`webapp`, the light modules it uses, and what its settings name by path."""
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "locks" / "web.txt").read_text(), re.M))
    light = ["trainer/config.py", "trainer/config_faults.py", "trainer/config_rules.py"]
    light += ["trainer/events.py", "sandbox/task.py", "sandbox/available.py"]
    files = [*(ROOT / "webapp").rglob("*.py"), *(ROOT / path for path in light)]
    names = {"uvicorn", "psycopg", "channels_redis", "storages", "whitenoise", "redis", "boto3"}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).partition(".")[0])
    ours = {"webapp", "trainer", "sandbox"} | sys.stdlib_module_names
    distributions = packages_distributions()
    needed = {re.sub(r"[-_.]+", "-", distributions[name][0]).lower() for name in names - ours}
    assert needed <= locked
