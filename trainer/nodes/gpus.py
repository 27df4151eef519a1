"""Which GPUs of a node are whose. Rank n of a node has GPU n; engine replicas follow each other on the GPUs after the ranks'
where those suffice, and otherwise share the ranks', from GPU 0 on."""

from trainer.config import ConfigError, TrainConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"


def engine_gpus(config: TrainConfig, replica: int) -> list[int]:
    """The GPUs of one replica, on the node of the lead; empty on a CPU."""
    width = config.engine.tensor_parallel
    if not config.hardware.gpus_per_node:
        return []
    first = (0 if share_gpus(config) else _ranks_here(config)) + replica * width
    return list(range(first, first + width))


def share_gpus(config: TrainConfig) -> bool:
    """Whether engines are on GPUs that ranks are on too."""
    engine, there_are = config.engine, config.hardware.gpus_per_node
    return 0 < there_are < _ranks_here(config) + engine.replicas * engine.tensor_parallel


def _ranks_here(config: TrainConfig) -> int:
    return config.hardware.ranks // config.hardware.nodes


def visible(gpus: list[int], ours: str | None) -> list[str]:
    """These of our GPUs in the words of CUDA_VISIBLE_DEVICES: `ours` is what it says to this process, which may name a part
    of the machine's, by number or by identifier. Raises ConfigError where it names too few.
    """
    if not ours:
        return [str(gpu) for gpu in gpus]
    names = ours.split(",")
    if gpus[-1] >= len(names):
        message = f"an engine needs GPU {gpus[-1]}, and {VISIBLE}={ours} shows {len(names)}; show more, or lower this"
        raise ConfigError([("hardware.gpus_per_node", message)])
    return [names[gpu].strip() for gpu in gpus]
