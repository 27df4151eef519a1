"""A stand-in for a vLLM server on a GPU: vLLM's real weight routes and rendezvous, without a model and without NCCL.

    python -m tests.trainer.stand_in_vllm PORT FOLDER

The routes are vLLM's own router. Behind them, where a worker would join an NCCL group, this joins vLLM's
StatelessProcessGroup at the same address as the same rank and receives over its TCP store. Each finished update is
FOLDER/VERSION-rank.safetensors, and each call a line in FOLDER/calls. A completion's only token is the rank. FOLDER/refuse
holds the name of a call to be refused.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from safetensors.torch import save_file
from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer.base import (
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferUpdateInfo
from vllm.entrypoints.rl.online.api_router import router


class StandInClient:
    """What vLLM's routes call: the engine's side of a weight update."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vllm_config = SimpleNamespace(
            parallel_config=SimpleNamespace(world_size=1, world_size_across_dp=1)
        )
        self.rank = 0
        self.received: dict[str, torch.Tensor] = {}

    def called(self, name: str) -> None:
        refuse = self.folder / "refuse"
        if refuse.exists() and refuse.read_text() == name:
            raise RuntimeError(f"{name} is refused")
        with (self.folder / "calls").open("a") as calls:
            calls.write(f"{self.rank} {name}\n")

    async def init_weight_transfer_engine(self, request: WeightTransferInitRequest) -> None:
        info = NCCLWeightTransferInitInfo(**request.init_info)
        assert info.master_address
        assert info.master_port
        self.rank = info.rank_offset
        self.called("init")
        self.group = StatelessProcessGroup.create(
            host=info.master_address,
            port=info.master_port,
            rank=info.rank_offset,
            world_size=info.world_size,
        )

    async def shutdown_weight_transfer_engine(self) -> None:
        self.called("shutdown")

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        self.called(f"pause {mode}")

    async def resume_generation(self) -> None:
        self.called("resume")

    async def start_weight_update(self) -> None:
        self.called("start")

    async def update_weights(self, request: WeightTransferUpdateRequest) -> None:
        self.called("update")
        assert isinstance(request.update_info, dict)
        info = NCCLWeightTransferUpdateInfo(**request.update_info)
        for name, dtype, shape in zip(info.names, info.dtype_names, info.shapes, strict=True):
            weight = self.group.broadcast(torch.empty(0), src=0)
            assert (str(weight.dtype), list(weight.shape)) == (f"torch.{dtype}", shape)
            self.received[name] = weight

    async def finish_weight_update(self, weight_version: str | None) -> None:
        self.called("finish")
        save_file(self.received, self.folder / f"{weight_version}-{self.rank}.safetensors")


def make_app(folder: Path) -> FastAPI:
    app = FastAPI()
    app.state.engine_client = client = StandInClient(folder)
    app.include_router(router)

    @app.get("/health")
    def health() -> None: ...

    @app.post("/reset_prefix_cache")
    def reset_prefix_cache() -> None:
        client.called("reset")

    @app.post("/v1/completions")
    def complete() -> dict[str, Any]:
        choice = {
            "text": "",
            "token_ids": [client.rank],
            "logprobs": {"token_logprobs": [0.0]},
            "finish_reason": "stop",
        }
        return {"choices": [choice]}

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="warning")
