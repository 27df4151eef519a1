"""A process for each rank on this node, by torchrun's own machinery (torch.distributed.launcher): start, watch, end together.

A stop goes to every rank; the lead saves a checkpoint, and all end. When one rank fails or is killed the others end too.
Nothing is restarted here: whoever started the run starts it again, and it goes on from its checkpoint. Ranks die with this
process. On several nodes it runs once on each; node 0 holds the rendezvous and the lead.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from trainer.config import HardwareConfig
from trainer.nodes.ending import EXIT_RANK_LOST, die_by, last_word

log = logging.getLogger(__name__)

STOP_GRACE_S = 1800
"""A large checkpoint takes its time; what asks for a stop has a grace of its own, mostly shorter."""


class Node(NamedTuple):
    """Where this machine stands among those of a run."""

    number: int = 0
    rendezvous: str = ""
    """host:port of node 0; empty for a run on one node."""


def launch(
    hardware: HardwareConfig, arguments: Sequence[str], node: Node, run_dir: Path | None = None
) -> int:
    """Run Python with `arguments` as every rank of this node; the exit code of the rank that ended first and badly, or 0.

    After a stop it is 0 where the last event in `run_dir` says that the run was stopped or had finished.
    Where a rank was killed, here or on another node, this process ends by the same signal or by SIGKILL, so that the run is
    resumed like one of a single process.
    """
    ranks_here = hardware.ranks // hardware.nodes
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks_here)))
    start = elastic_launch(_launch_config(hardware, ranks_here, node), sys.executable)
    try:
        start(*arguments)
    except SignalException:
        said = last_word(run_dir) if run_dir else None
        return 0 if said and said.status != "failed" else 1
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        log.error("the first ranks to end, with their exit codes: %s", codes)
        for code in codes.values():
            if code < 0 or code == EXIT_RANK_LOST:
                die_by(signal.SIGKILL if code > 0 else -code)
        return next(iter(codes.values()))
    return 0


def _launch_config(hardware: HardwareConfig, ranks_here: int, node: Node) -> LaunchConfig:
    here_alone = hardware.nodes == 1
    return LaunchConfig(
        min_nodes=hardware.nodes,
        max_nodes=hardware.nodes,
        nproc_per_node=ranks_here,
        run_id=uuid4().hex if here_alone else "trainer",
        role="rank",
        rdzv_backend="c10d" if here_alone else "static",
        rdzv_endpoint="localhost:0" if here_alone else node.rendezvous,
        rdzv_configs={} if here_alone else {"rank": node.number},
        local_addr="127.0.0.1" if here_alone else None,
        max_restarts=0,
        shutdown_timeout=STOP_GRACE_S,
    )
