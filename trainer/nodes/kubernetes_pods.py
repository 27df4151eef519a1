"""A run on several machines -> what a cluster is asked for: a pod for each node, and a headless Service that names them.

A pod is what the administrator's template says (image, volumes, resources, user) and what the run adds: a name, a place in the
run, and the trainer's arguments. Node 0 is found by the others as `node-0.SERVICE`. The cluster restarts nothing: a run goes
on as a whole, from its checkpoint. Plain dicts; nothing here talks to a cluster.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.labels import LABEL
from trainer.config import ConfigError

CONTAINER = "trainer"
PORT = 29400
RUN_LABEL = f"{LABEL}/training"

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainingPods:
    """The objects of one run, which are named after its folder."""

    run_dir: Path
    template: Json
    """A Pod with a container `trainer`, whose command takes the trainer's arguments."""
    num_nodes: int

    @property
    def name(self) -> str:
        """Of the Service and the label; the same whenever the run is started."""
        return "trainer-" + hashlib.sha256(str(self.run_dir).encode()).hexdigest()[:16]

    @property
    def namespace(self) -> str:
        namespace: str = self.template["metadata"].get("namespace", "default")
        return namespace

    @property
    def grace_s(self) -> float:
        """From a stop until a pod is killed; the cluster's own where the template does not say."""
        grace: float = self.template["spec"].get("terminationGracePeriodSeconds", 30)
        return grace

    def service(self) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self._metadata(self.name),
            "spec": {
                "clusterIP": "None",
                # ranks look for each other before any pod is ready
                "publishNotReadyAddresses": True,
                "selector": {RUN_LABEL: self.name},
                "ports": [{"name": "rendezvous", "port": PORT}],
            },
        }

    def pods(self, arguments: Sequence[str]) -> list[Json]:
        """In the order of the nodes; `arguments` are the trainer's, which each gets with its place."""
        return [self._pod(number, arguments) for number in range(self.num_nodes)]

    def _pod(self, number: int, arguments: Sequence[str]) -> Json:
        pod = copy.deepcopy(self.template)
        pod["metadata"] |= self._metadata(f"{self.name}-{number}")
        spec = pod["spec"]
        spec |= {
            "hostname": f"node-{number}",
            "subdomain": self.name,
            "restartPolicy": "Never",
            # as the first process of its own namespace the trainer could not end by a signal
            "shareProcessNamespace": True,
        }
        rendezvous = f"node-0.{self.name}:{PORT}"
        (trainer,) = [c for c in spec["containers"] if c["name"] == CONTAINER]
        trainer["args"] = [*arguments, "--node", str(number), "--rendezvous", rendezvous]
        trainer["terminationMessagePolicy"] = "FallbackToLogsOnError"
        return pod

    def _metadata(self, name: str) -> Json:
        own = self.template["metadata"]
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": own.get("labels", {}) | {RUN_LABEL: self.name},
            "annotations": own.get("annotations", {}) | {f"{LABEL}/run-dir": str(self.run_dir)},
        }


def read_template(path: Path) -> Json:
    """Raises ConfigError naming the file and what is wrong with it."""
    try:
        template = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError([("--template", f"{path}: not readable as YAML: {error}")]) from error
    if not isinstance(template, dict) or template.get("kind") != "Pod":
        raise ConfigError([("--template", f"{path}: not a Pod")])
    names = [c.get("name") for c in template.get("spec", {}).get("containers", [])]
    if names.count(CONTAINER) != 1:
        message = f"{path}: containers {names}: needs one with the name {CONTAINER}"
        raise ConfigError([("--template", message)])
    template.setdefault("metadata", {})
    return template
