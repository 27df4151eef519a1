"""New weights from the trainer's GPUs to the engine's by vLLM's own NCCL transfer (vllm.distributed.weight_transfer).

The lead and every worker of every replica form one NCCL group: the lead broadcasts each gathered weight, the workers load it,
and HTTP calls to each replica frame the transfer: pause, start, update, finish, clear the prefix cache, resume. A replica that
was started again breaks the group, which is made anew before the next transfer, and answers nobody until that is over.

NCCL knows no timeout, so a transfer runs on a thread of its own while the caller waits for it, for the first HTTP call that
fails, or for the timeout. The GPUs of lead and engines must differ (`trainer.nodes.gpus`).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import httpx
import torch
from torch import Tensor
from vllm.distributed.weight_transfer import (
    ParamMeta,
    TrainerWeightTransferEngine,
    WeightSource,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from trainer.engines.generate import Engine, EngineUnavailable
from trainer.engines.vllm_engine import VllmEngine, free_port, replicas_of
from trainer.engines.weights import GatherWeights
from trainer.model.policy import Policy, weight_shapes, whole_weights

CALL_TIMEOUT_S = 300.0
TRANSFER_TIMEOUT_S = 600.0


class NcclSync:
    """Made by the lead; the other ranks join in gathering by its orders."""

    def __init__(self, policy: Policy, engine: Engine, dtype: torch.dtype) -> None:
        """`dtype` is the engine's."""
        self._policy, self._engine, self._dtype = policy, engine, dtype
        self._link: _Link | None = None

    def push(self, policy_version: int) -> None:
        """Give every replica the policy's weights under this version. Raises EngineUnavailable naming version and step."""
        replicas = replicas_of(self._engine)
        for replica in replicas:
            replica.revive()
        self._policy.world.order(GatherWeights(self._dtype))
        try:
            if self._link is None or self._link.is_broken(replicas):
                self._link = self._renewed(replicas)
            self._link.send(policy_version)
        except Exception as error:
            raise EngineUnavailable(
                f"policy version {policy_version} did not reach the engine by nccl: {error}"
            ) from error
        for replica in replicas:
            replica.weights_arrived(policy_version)
        self._engine.policy_version = policy_version

    def renew(self, policy_version: int) -> None:
        """Push again where a replica was started again and waits for weights. The main thread's, while no update runs."""
        if threading.current_thread() is threading.main_thread() and any(
            replica.awaits_weights for replica in replicas_of(self._engine, settled=False)
        ):
            self.push(policy_version)

    def close(self) -> None:
        """The group ends with its processes: tearing it down needs every one of them to answer."""

    def _renewed(self, replicas: list[VllmEngine]) -> "_Link":
        """A new group. Of the old one the workers that still live let go; the lead's end is left, closing it may block."""
        if self._link is not None:
            linked = [replica.url for replica in replicas if replica.url in self._link.urls]
            ReplicaClient(linked).shutdown_weight_transfer_engine()
        return _Link(replicas, PolicySource(self._policy, self._dtype))


class PolicySource(WeightSource):
    """The policy's weights, whole, in the engine's type and under the names of its checkpoint."""

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        self._policy, self._dtype = policy, dtype

    def metadata(self) -> list[ParamMeta]:
        shapes = weight_shapes(self._policy)
        return [ParamMeta(name, self._dtype, tuple(shape)) for name, shape in shapes.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """vLLM asks for each weight under a stream of its own, on which a gather would wait for the broadcast before it."""
        weights = whole_weights(self._policy, self._dtype)
        while True:
            if torch.cuda.is_available():
                reader = torch.cuda.current_stream()
                with torch.cuda.stream(torch.cuda.default_stream()):
                    named = next(weights, None)
                    torch.cuda.current_stream().synchronize()
            else:
                named = next(weights, None)
            if named is None:
                return
            if named[1].is_cuda:
                # it is let go of while vLLM's stream still copies it: its memory must not be given to the next weight
                named[1].record_stream(reader)
            yield named


class _Link:
    """One group of the lead and the workers of these replicas as they are now. Raises whatever fails first."""

    def __init__(self, replicas: list[VllmEngine], source: PolicySource) -> None:
        self.urls = [replica.url for replica in replicas]
        self.client = ReplicaClient(self.urls)
        self._failed = False
        sizes = self.client.world_sizes()
        init_info = NCCLTrainerInitInfo(
            rank=0,
            master_address="127.0.0.1",
            master_port=free_port(),
            world_size=1 + sum(sizes),
        )
        self._transfer: TrainerWeightTransferEngine = self._watched(
            lambda: WeightTransferTrainerFactory.trainer_init(
                init_info, client=self.client, source=source
            )
        )

    def is_broken(self, replicas: list[VllmEngine]) -> bool:
        """Whether a transfer failed, or one of the replicas was started again since."""
        return self._failed or [replica.url for replica in replicas] != self.urls

    def send(self, policy_version: int) -> None:
        client = self.client
        client.weight_version = str(policy_version)
        self._failed = True
        client.post_all("/pause", params={"mode": "keep"})
        try:
            self._watched(self._transfer.send_weights)
            client.post_all("/reset_prefix_cache")
        except Exception:
            with suppress(EngineUnavailable):
                client.post_all("/resume")
            raise
        client.post_all("/resume")
        self._failed = False

    def _watched(self, work: Callable[[], Any]) -> Any:
        outcome: Future[Any] = Future()
        device = torch.cuda.current_device() if torch.cuda.is_available() else None

        def run() -> None:
            try:
                if device is not None:
                    torch.cuda.set_device(device)
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, name="transfer", daemon=True).start()
        done, _ = wait(
            [outcome, self.client.failed], TRANSFER_TIMEOUT_S, return_when=FIRST_COMPLETED
        )
        if not done:
            raise TimeoutError(f"no end within {TRANSFER_TIMEOUT_S:.0f} s")
        return self.client.failed.result() if self.client.failed in done else outcome.result()


class ReplicaClient:
    """vLLM's VLLMWeightSyncClient: each call goes to all replicas at once. Raises the first error, naming route and replica."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls
        self._sizes = [1] * len(urls)
        self._http = httpx.Client(
            timeout=CALL_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self.weight_version = "0"
        self.failed: Future[None] = Future()
        """Done with the error of the first call that failed."""

    def world_sizes(self) -> list[int]:
        """Workers of each replica."""
        self._sizes = [
            self._http.get(f"{url}/get_world_size").raise_for_status().json()["world_size"]
            for url in self._urls
        ]
        return self._sizes

    def init_weight_transfer_engine(self, init_info: Mapping[str, Any]) -> None:
        """The workers of a replica have the ranks after those of the replica before it."""
        offsets = [init_info["rank_offset"] + sum(self._sizes[:n]) for n in range(len(self._sizes))]
        bodies = [{"init_info": {**init_info, "rank_offset": offset}} for offset in offsets]
        self._post_each("/init_weight_transfer_engine", bodies)

    def shutdown_weight_transfer_engine(self) -> None:
        self.post_all("/shutdown_weight_transfer_engine")

    def start_weight_update(self) -> None:
        self.post_all("/start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self.post_all("/update_weights", body={"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        body = {"weight_version": weight_version or self.weight_version}
        self.post_all("/finish_weight_update", body=body)

    def post_all(
        self, path: str, body: Any = None, params: Mapping[str, str] | None = None
    ) -> None:
        self._post_each(path, [body] * len(self._urls), params)

    def _post_each(
        self, path: str, bodies: list[Any], params: Mapping[str, str] | None = None
    ) -> None:
        def post(replica: int) -> None:
            url = f"{self._urls[replica]}{path}"
            self._http.post(url, json=bodies[replica], params=params).raise_for_status()

        with ThreadPoolExecutor(max(1, len(self._urls)), "replica") as threads:
            posts = [threads.submit(post, replica) for replica in range(len(self._urls))]
        for replica, posted in enumerate(posts):
            if error := posted.exception():
                failure = EngineUnavailable(f"{path} of replica {replica}: {error!r}")
                if not self.failed.done():
                    self.failed.set_exception(failure)
                raise failure from error
