"""Which worker may take a queued run, and what to say while none does."""

import os

from trainer.config import ConfigError, HardwareConfig, SandboxConfig, parse_config
from webapp.runs.models import Run, RunStatus, Worker

QUEUE = "train"
START_A_WORKER = "start one: celery -A webapp worker --queues train"


def obstacle(run: Run, worker: Worker) -> str:
    """Why this worker cannot train this run; empty when it can."""
    # a folder that this process may not enter is as good as none
    if run.host not in ("", worker.host) and not os.access(run.run_dir, os.X_OK):
        return f"its checkpoint is on {run.host}"
    try:
        config = parse_config(run.config)
    except ConfigError as error:
        return f"its configuration is none of this version's: {error}"
    if missing := too_few_nodes(config.hardware, worker):
        return missing
    if worker.cluster_nodes:
        # what a pod lacks is told by the cluster, or by the trainer in it
        return ""
    return shortfall(config.hardware, worker) or no_backend(config.sandbox, worker)


def too_few_nodes(needs: HardwareConfig, worker: Worker) -> str:
    if needs.nodes <= max(1, worker.cluster_nodes):
        return ""
    has = f"up to {worker.cluster_nodes} nodes" if worker.cluster_nodes else "its own machine alone"
    return f"it trains on {has} and the recipe needs {needs.nodes}"


def shortfall(needs: HardwareConfig, worker: Worker) -> str:
    """What of the hardware its own machine lacks; empty when nothing."""
    memory_gib = worker.memory_mib / 1024
    # Firmware and kernel keep some of what is built in.
    if memory_gib < needs.min_memory_gib * 0.95:
        return (
            f"it has {memory_gib:.0f} GiB of memory and the recipe needs {needs.min_memory_gib:g}"
        )
    if len(worker.gpus) < needs.gpus_per_node:
        return f"it has {len(worker.gpus)} GPUs and the recipe needs {needs.gpus_per_node}"
    memory = sorted(gpu["memory_mib"] / 1024 for gpu in worker.gpus)[-needs.gpus_per_node :]
    if needs.gpus_per_node and memory[0] < needs.gpu_memory_gib * 0.95:
        return f"its GPUs have {memory[0]:.0f} GiB and the recipe needs {needs.gpu_memory_gib:g}"
    return ""


def no_backend(sandbox: SandboxConfig, worker: Worker) -> str:
    has_it = sandbox.backend in worker.sandbox_backends
    return "" if has_it else f"it has no sandbox backend {sandbox.backend}"


def workers_of(queue: str) -> list[Worker]:
    """Those online that serve the queue."""
    return [worker for worker in Worker.objects.online() if queue in worker.queues]


def train_workers() -> list[Worker]:
    return workers_of(QUEUE)


def idle_train_workers() -> list[Worker]:
    """Those that train and hold no run: a worker trains one at a time."""
    busy = set(Run.objects.live().values_list("worker_id", flat=True))
    return [worker for worker in train_workers() if worker.id not in busy]


def position(run: Run) -> int:
    """Place in the queue, from 1."""
    return Run.objects.filter(status=RunStatus.QUEUED, queued_at__lt=run.queued_at).count() + 1


def waiting_for(run: Run) -> str:
    """One sentence on what a queued run waits for; empty when it is not queued."""
    if run.status != RunStatus.QUEUED:
        return ""
    workers = train_workers()
    if not workers:
        return f"Waits for a worker: none is online for the queue {QUEUE}; {START_A_WORKER}."
    obstacles = {worker.name: obstacle(run, worker) for worker in workers}
    if all(obstacles.values()):
        name, why = next(iter(obstacles.items()))
        return f"Waits for a worker that can train it: {name} cannot, {why}."
    place = position(run)
    if place > 1 or not idle_train_workers():
        return f"Number {place} in the queue: waits until a worker is free."
    return "A worker is about to take it."
