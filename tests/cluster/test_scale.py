"""512 sandboxes at once against a real API server: admission, leases, the watch and the reaper, with pods that no node
takes, so that what is measured is what we ask of the server.

The server itself counts, by its audit log. A sandbox costs two requests, to make and to remove it, and one more for every five
minutes that it is held; here it is held for one renewal of its lease. So 512 of them are some 1,030 requests, which take two
minutes at the pace that the backend keeps to. Held longer, as a rollout holds one, they cost less a second.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from sandbox.base import ReapReport, SandboxSpec
from sandbox.errors import SandboxUnavailable
from sandbox.kubernetes.api import Api
from sandbox.kubernetes.backend import KubernetesBackend
from sandbox.kubernetes.command import PodCommands
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import PREFIX, pod_body, run_object
from sandbox.kubernetes.reap import reap_pods
from sandbox.kubernetes.sandbox import KubernetesSandbox
from sandbox.kubernetes.watch import PodWatch
from sandbox.labels import LABEL
from sandbox.pool import STARTS_PER_CORE, Pool
from sandbox.snapshot import Base
from tests.cluster.live import Node, Pods, Request, wait_until
from tests.cluster.namespace import sandbox_namespace

pytestmark = [pytest.mark.k8s, pytest.mark.slow]

NUM = 512
NUM_GIVEN_UP = 48
CORES = 64
MAX_REQUESTS_PER_S = 10
RENEW_EVERY_S = 60.0
NOWHERE = {"deepswe.studio/no-such-node": "true"}


class NeverRun:
    """Stands in for a backend whose pods run: gives each out as soon as it is created, though no node takes it.

    The pods, their leases, the watch and the reaper are the real ones; only commands cannot be run.
    """

    name, cores = "kubernetes", CORES

    def __init__(self, options: KubernetesOptions, spec: SandboxSpec) -> None:
        self.id = secrets.token_hex(8)
        self.options = options
        self.api = Api(options)
        self.watch = PodWatch(self.api, f"{PREFIX}/backend={self.id}")
        body = run_object(spec.labels, self.id)
        owner = self.api.call("POST", self.api.path("configmaps"), body=body)
        self._owner_uid = owner["metadata"]["uid"]
        self._lock = threading.Lock()
        self.starting = self.most_starting = 0

    def create(self, spec: SandboxSpec) -> KubernetesSandbox:
        self._count(1)
        name = f"sandbox-{secrets.token_hex(8)}"
        body = pod_body(name, spec, self.options, backend=self.id, owner_uid=self._owner_uid)
        self.watch.expect(name)
        self.api.call("POST", self.api.path("pods"), body=body)
        self._count(-1)
        commands = PodCommands(self.api, self.watch, name, self.options)
        return KubernetesSandbox(name, spec, Base(b"", b""), commands)

    def _count(self, change: int) -> None:
        with self._lock:
            self.starting += change
            self.most_starting = max(self.most_starting, self.starting)

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        return b""

    def reap(self, *, run: str | None = None) -> ReapReport:
        return reap_pods(self.api, run)

    def close(self) -> None:
        self.watch.close()


@pytest.fixture(scope="module")
def kubernetes_options() -> Iterator[dict[str, Any]]:
    """A namespace of this file's own: the backends that other tests hold watch theirs meanwhile, and would be counted."""
    with sandbox_namespace() as options:
        yield options


@pytest.fixture(scope="module")
def pods(kubernetes_options: dict[str, Any]) -> Pods:
    return Pods(Api(KubernetesOptions(namespace=str(kubernetes_options["namespace"]))))


@pytest.fixture
def crowd(spec: SandboxSpec) -> SandboxSpec:
    """What each of them is."""
    return replace(spec, labels=replace(spec.labels, run=f"crowd-{secrets.token_hex(4)}"))


@pytest.fixture
def never_run(kubernetes_options: dict[str, Any], crowd: SandboxSpec) -> Iterator[NeverRun]:
    made = NeverRun(KubernetesOptions(**kubernetes_options, node_selector=NOWHERE), crowd)
    yield made
    made.reap(run=crowd.labels.run)
    made.close()


def test_hundreds_at_once_ask_little_of_the_server(
    never_run: NeverRun, crowd: SandboxSpec, node: Node, pods: Pods
) -> None:
    began = time.time()

    def asked() -> list[Request]:
        return [r for r in node.requests(pods.api.namespace) if r.at >= began]

    with closing(Pool(never_run, max_operations=NUM, renew_every_s=RENEW_EVERY_S)) as pool:
        with ThreadPoolExecutor(NUM) as threads:
            held = {s.id for s in threads.map(lambda _: pool.create(crowd), range(NUM))}
        assert never_run.most_starting <= STARTS_PER_CORE * CORES
        for name in held:
            status = never_run.watch.wait_for(name, lambda s: bool(s.waiting), 20)
            assert status is not None
            assert "node" in status.waiting
        wait_until(lambda: count(asked(), "patch") >= NUM, "a lease was not renewed", 180)
        leases = {name: float(found[f"{LABEL}.expires"]) for name, found in pods.annotations()}
        assert {name for name, lease in leases.items() if lease > crowd.labels.expires} == held
        report = pool.reap(run=crowd.labels.run)
        assert (set(report.removed), report.errors) == (held, ())
        wait_until(lambda: pods.names() == set(), "a pod is left", 30)
    elapsed_s = time.time() - began
    print_figures(asked(), elapsed_s)
    assert count(asked(), "watch") == 1
    assert len(asked()) <= MAX_REQUESTS_PER_S * elapsed_s


def test_pods_that_no_node_takes_are_given_up_in_time_and_nothing_is_left(
    kubernetes_options: dict[str, Any], crowd: SandboxSpec, node: Node, pods: Pods
) -> None:
    with closing(KubernetesBackend(**kubernetes_options)) as backend:
        backend.create(crowd).close()
        backend.options = replace(backend.options, node_selector=NOWHERE, start_timeout_s=8)
        began = time.time()
        pool = Pool(backend, max_operations=NUM_GIVEN_UP)
        with ThreadPoolExecutor(NUM_GIVEN_UP) as threads:
            ends = list(threads.map(lambda _: end_of(pool, crowd), range(NUM_GIVEN_UP)))
        asked = [r for r in node.requests(pods.api.namespace) if r.at >= began]
        assert {type(end) for end in ends} == {SandboxUnavailable}
        assert all("start_timeout_s=8" in str(end) and "node" in str(end) for end in ends)
        assert Counter(r.verb for r in asked if r.resource == "pods") == {
            "create": NUM_GIVEN_UP,
            "delete": NUM_GIVEN_UP,
        }
        assert pool.leased == 0
        wait_until(lambda: pods.names() == set(), "a pod is left", 60)
    assert backend.reap(run=crowd.labels.run).examined == 0


def end_of(pool: Pool, spec: SandboxSpec) -> Exception | None:
    try:
        pool.create(spec)
    except SandboxUnavailable as error:
        return error
    return None


def count(asked: list[Request], verb: str) -> int:
    return sum(request.verb == verb for request in asked)


def print_figures(asked: list[Request], elapsed_s: float) -> None:
    verbs = ", ".join(f"{number} {verb}" for verb, number in Counter(r.verb for r in asked).items())
    print(
        f"\n{NUM} sandboxes: {len(asked)} requests in {elapsed_s:.0f} s ({verbs}), "
        f"{len(asked) / elapsed_s:.1f} a second on average"
    )
