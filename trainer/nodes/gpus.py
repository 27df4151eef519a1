"""Which GPUs of a node are whose. Rank n of a node has GPU n; engine replicas follow each other on the GPUs after the ranks'
where those suffice, and otherwise share the ranks', from GPU 0 on."""

from trainer.config import TrainConfig


def engine_gpus(config: TrainConfig, replica: int) -> list[int]:
    """The GPUs of one replica, on the node of the lead; empty on a CPU."""
    hardware, width = config.hardware, config.engine.tensor_parallel
    if not hardware.gpus_per_node:
        return []
    ranks = hardware.ranks // hardware.nodes
    apart = ranks + config.engine.replicas * width <= hardware.gpus_per_node
    first = (ranks if apart else 0) + replica * width
    return list(range(first, first + width))
