"""A vLLM server as a child process, spoken to over HTTP with a timeout on every call.

Token ids travel both ways and text is never encoded. New weights arrive as a folder of safetensors: pause, reload,
clear the prefix cache (it is keyed on tokens, not on weights), resume. A server that died is started again with the last
weights by `revive`; requests that it held raise EngineUnavailable, later ones wait for it. So is one that hangs: that answers
nobody for as long as a request may take, nor a request for one token then, whatever its front end says of its health.
vLLM's development routes are needed, so it listens on loopback.
"""

import importlib.util
import json
import logging
import math
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import torch

from trainer.config import TrainConfig
from trainer.engines.generate import STOP, Completion, Engine, EngineUnavailable, GenerationTimeout
from trainer.engines.pool import EnginePool
from trainer.model.precision import compute_dtype, name_of
from trainer.nodes.gpus import VISIBLE, engine_gpus, visible
from trainer.nodes.processes import GuardedProcess
from trainer.stop import RunStopped

log = logging.getLogger(__name__)

MODEL_NAME = "policy"
CONTROL_TIMEOUT_S = 120.0
HEALTH_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 60.0


class VllmEngine:
    def __init__(
        self,
        config: TrainConfig,
        log_path: Path,
        stopping: Callable[[], bool] = lambda: False,
        replica: int = 0,
    ) -> None:
        """Start the server and wait until it answers. `replica` counts from 0. Raises EngineUnavailable, RunStopped."""
        if importlib.util.find_spec("vllm") is None:
            raise EngineUnavailable(
                'vllm is not installed: run "make setup", or set engine.kind = "transformers" (slower)'
            )
        self.config = config
        self.log_path = log_path
        self.replica = replica
        self.policy_version = 0
        self.awaits_weights = False
        """Started again without a folder of weights to load: it answers when `weights_arrived`."""
        self._stopping = stopping
        self._weights: Path | None = None
        self._weights_version = 0
        self._closed = False
        self._lost: EngineUnavailable | None = None
        self._distrusted = False
        self._answered = 0.0
        self._ready = threading.Event()
        # a server that is killed leaves its sockets behind
        self._sockets = tempfile.TemporaryDirectory(prefix="deepswe-engine-")
        # shorter than the server's own 5 s, or a request can meet a connection that is just being closed
        limits = httpx.Limits(max_connections=config.rollout.concurrency + 8, keepalive_expiry=2)
        self._http = httpx.Client(limits=limits, timeout=CONTROL_TIMEOUT_S)
        self._start()

    def complete(
        self,
        prompt_ids: list[int],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        timeout_s: float,
        rollout: UUID | None = None,
    ) -> Completion:
        body: dict[str, Any] = {
            "model": MODEL_NAME,
            "prompt": prompt_ids,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "stop": [STOP],
            "include_stop_str_in_output": True,
            "logprobs": 0,
            "return_token_ids": True,
        }
        if _on_gpu(self.config):
            body["seed"] = seed  # the CPU build's sampler crashes on a request's own generator
        if not self._ready.wait(timeout_s):
            raise EngineUnavailable(f"the engine was not back within {timeout_s:.0f} s")
        if self._closed:
            raise EngineUnavailable("the engine is closed")
        policy_version = self.policy_version
        return _completion(self._sampled(body, timeout_s), policy_version)

    def load_weights(self, folder: Path, policy_version: int) -> None:
        self._weights, self._weights_version = folder, policy_version
        if not self.revive():
            try:
                self._push(folder)
            except EngineUnavailable as error:
                log.warning("%s", error)
                self._distrusted = True  # it may have half of the weights
                self.revive()
        # only now: what a request began with must never be newer than what answers it
        self.policy_version = policy_version

    def weights_arrived(self, policy_version: int) -> None:
        """They came past HTTP (`trainer.engines.nccl_sync`)."""
        self.policy_version, self.awaits_weights = policy_version, False
        self._open()

    def revive(self) -> bool:
        """Start a dead server again with the last weights; True when it was dead.

        A server that let a request down is asked whether it is well: its front end may answer while its model is gone. One that
        hangs, or failed to take new weights, is not asked.
        Raises EngineUnavailable, RunStopped; once it could not be started, always what was wrong then.
        """
        if self._lost:
            raise self._lost
        exit_code = self._process.exit_code()
        if (
            exit_code is None
            and not self._distrusted
            and (self._ready.is_set() or self._healthy(HEALTH_TIMEOUT_S))
        ):
            self._open()
            return False
        state = "no longer answers" if exit_code is None else f"is gone (exit code {exit_code})"
        log.warning("the engine %s; starting it again", state)
        self._process.close()
        self._start()
        return True

    def close(self) -> None:
        self._closed = True
        self._ready.set()
        self._process.close()
        self._http.close()
        self._sockets.cleanup()

    def _sampled(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply's one choice. Raises EngineUnavailable, and GenerationTimeout where the rollout's time is the shorter."""
        sent, longest_s = time.monotonic(), self.config.engine.request_timeout_s
        try:
            reply = self._http.post(
                f"{self.url}/v1/completions",
                json=body,
                timeout=max(min(timeout_s, longest_s), 0.01),
            )
            reply.raise_for_status()
        except httpx.TimeoutException as error:
            if self._hangs(sent) or timeout_s > longest_s:
                raise self._unavailable(error) from error
            raise GenerationTimeout(
                f"no completion within the rollout's {timeout_s:.0f} s"
            ) from error
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed during the request
            raise self._unavailable(error) from error
        self._answered = time.monotonic()
        choice: dict[str, Any] = reply.json()["choices"][0]
        return choice

    def _push(self, folder: Path) -> None:
        self._post("/pause", params={"mode": "keep"})
        try:
            body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
            self._post("/collective_rpc", json=body)
            self._post("/reset_prefix_cache")
        finally:
            self._post("/resume")

    def _post(self, path: str, **kwargs: Any) -> None:
        try:
            self._http.post(f"{self.url}{path}", **kwargs).raise_for_status()
        except httpx.HTTPError as error:
            raise EngineUnavailable(
                f"policy version {self._weights_version}: {path}: {error!r}"
            ) from error

    def _healthy(self, timeout_s: float) -> bool:
        try:
            return self._http.get(f"{self.url}/health", timeout=timeout_s).is_success
        except httpx.HTTPError:
            return False

    def _hangs(self, since: float) -> bool:
        """Whether nobody has been answered since then, and a request for one token is not answered either."""
        if self._answered >= since or self._closed:
            return False
        body = {"model": MODEL_NAME, "prompt": [0], "max_tokens": 1}
        try:
            reply = self._http.post(
                f"{self.url}/v1/completions", json=body, timeout=PROBE_TIMEOUT_S
            )
            reply.raise_for_status()
        except (httpx.HTTPError, RuntimeError):
            self._distrusted = not self._closed
            return True
        self._answered = time.monotonic()
        return False

    def _unavailable(self, error: Exception) -> EngineUnavailable:
        if not self._closed:
            self._ready.clear()
        return EngineUnavailable(f"the engine did not complete a request: {error!r}")

    def _start(self) -> None:
        self._ready.clear()
        self._distrusted = False
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self.log_path.open("ab") as output:
            self._process = GuardedProcess(
                _command(self.config, port),
                env=os.environ
                | _environment(self.config)
                | {"VLLM_RPC_BASE_PATH": self._sockets.name}
                | self._devices(),
                output=output,
            )
        try:
            self._wait_ready()
            if self._weights is not None:
                self._push(self._weights)
        except BaseException as error:
            self._lost = error if isinstance(error, EngineUnavailable) else None
            self.close()
            raise
        self.awaits_weights = self._weights is None and self.policy_version > 0
        self._open()

    def _open(self) -> None:
        if not self.awaits_weights:
            self._ready.set()

    def _devices(self) -> dict[str, str]:
        gpus = engine_gpus(self.config, self.replica)
        return {VISIBLE: ",".join(visible(gpus, os.environ.get(VISIBLE)))} if gpus else {}

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self.config.engine.startup_timeout_s
        while time.monotonic() < deadline:
            if self._stopping():
                raise RunStopped
            if self._process.exit_code() is not None:
                raise EngineUnavailable(
                    f"vLLM exited with {self._process.exit_code()} while starting; end of {self.log_path}:\n"
                    + _tail(self.log_path)
                )
            if self._healthy(timeout_s=2):
                return
            time.sleep(0.25)
        raise EngineUnavailable(
            f"vLLM did not answer within engine.startup_timeout_s={self.config.engine.startup_timeout_s:.0f}; "
            f"end of {self.log_path}:\n{_tail(self.log_path)}"
        )


def replicas_of(engine: Engine, *, settled: bool = True) -> list[VllmEngine]:
    """The servers behind `engine`; `settled` waits for those that are being started again."""
    if isinstance(engine, EnginePool):
        if settled:
            engine.settle()
        return [replica for replica in engine.engines if isinstance(replica, VllmEngine)]
    return [engine] if isinstance(engine, VllmEngine) else []


def _completion(choice: dict[str, Any], policy_version: int) -> Completion:
    logprobs = choice["logprobs"]["token_logprobs"]
    return Completion(
        text=choice["text"],
        token_ids=choice["token_ids"],
        # JSON has no NaN: a model that came to nothing says null, and the update must see it
        logprobs=[math.nan if value is None else value for value in logprobs],
        policy_version=policy_version,
        finish_reason="stop" if choice["finish_reason"] == "stop" else "length",
    )


def _command(config: TrainConfig, port: int) -> list[str]:
    # the `vllm` console script asks for the metadata of a package of that name, which the CPU build does not have
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    options: dict[str, Any] = {
        "model": config.model.path,
        "served-model-name": MODEL_NAME,
        "dtype": name_of(compute_dtype(config.model)),
        "max-model-len": config.engine.max_model_len,
        "max-num-seqs": config.rollout.concurrency,
        "host": "127.0.0.1",
        "port": port,
        "seed": config.seed,
        # else what the request leaves out is the model's own: Qwen3 would sample among 20 tokens, and the trainer among all
        "generation-config": "vllm",
        # log-probabilities of the distribution that was sampled from, temperature included
        "logprobs-mode": "processed_logprobs",
        "tensor-parallel-size": config.engine.tensor_parallel,
    }
    if _on_gpu(config):
        options["gpu-memory-utilization"] = config.engine.gpu_memory_utilization
    if config.engine.weight_sync == "nccl":
        options["weight-transfer-config"] = json.dumps({"backend": "nccl"})
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return [*command, "--disable-log-stats"] + ([] if _on_gpu(config) else ["--enforce-eager"])


def _on_gpu(config: TrainConfig) -> bool:
    """A recipe for CPUs uses a GPU where there is one, as the trainer does beside it (`trainer.nodes.world`)."""
    return config.hardware.gpus_per_node > 0 or torch.cuda.is_available()


def _environment(config: TrainConfig) -> dict[str, str]:
    return {
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(config.engine.kv_cache_gib))),
        # left to itself vLLM keeps a core for its front end, which is idle most of the time: 0.65 of the throughput
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(
            str(core) for core in sorted(os.sched_getaffinity(0))
        ),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1" if Path(config.model.path).is_dir() else "0",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(path: Path, size: int = 3000) -> str:
    return path.read_bytes()[-size:].decode(errors="replace")
