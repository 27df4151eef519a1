"""What a Celery worker says about itself: what it has, that it lives, that it was told to end."""

import csv
import logging
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import psutil
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from sandbox.available import available_backends
from webapp.evaluations import lifecycle as evaluations
from webapp.runs import lifecycle, processes
from webapp.runs.models import LIVE_STATUSES, Run, RunStatus, Worker

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
SHUTDOWN = threading.Event()
"""Set when this worker is told to end: supervisors stop their runs and give them back."""

CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


def resources() -> dict[str, Any]:
    """The fields of `Worker` that describe this machine, and the cluster that it trains on."""
    return {
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": _memory_bytes() // 2**20,
        "gpus": _gpus(),
        "sandbox_backends": list(available_backends(settings.CHILD_ENVIRONMENT)),
        "cluster_nodes": settings.TRAINER_NODES,
    }


def _memory_bytes() -> int:
    """Of the machine, or of the container that this is."""
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.exists() else "max"
    total: int = psutil.virtual_memory().total
    return min(total, int(limit)) if limit.isdecimal() else total


def _gpus() -> list[dict[str, Any]]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if not shutil.which(command[0]):
        return []
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows = csv.reader(told.splitlines(), skipinitialspace=True)
    return [{"name": name, "memory_mib": int(memory)} for name, memory in rows]


def report(name: str, queues: list[str]) -> Worker:
    """Enter this worker, or enter it again."""
    fields = resources() | {
        "queues": queues,
        "started_at": timezone.now(),
        "heartbeat_at": timezone.now(),
        "stopped_at": None,
    }
    worker, _ = Worker.objects.update_or_create(name=name, defaults=fields)
    return worker


def take_up(worker: Worker) -> None:
    """Go on with what an earlier process of this worker held; end what nobody wants any more."""
    for run_id in lifecycle.abandon(worker):
        lifecycle.send(run_id)
    evaluations.abandon(worker)
    for run_dir in processes.held_locks(settings.RUNS_DIR):
        unwanted = Run.objects.filter(run_dir=str(run_dir)).exclude(
            status__in=[*LIVE_STATUSES, RunStatus.QUEUED]
        )
        for run in unwanted:
            logger.warning("run %s: ended, but its process is alive: killed", run.id)
            processes.sweep(run.id)


def beat(worker_id: int) -> None:
    """Say every few seconds that this worker lives, until it ends."""
    while True:
        try:
            say_alive(worker_id)
        except DatabaseError as error:
            logger.warning("no heartbeat: %s", error)
            close_old_connections()
        threading.Event().wait(HEARTBEAT_S)


def say_alive(worker_id: int) -> None:
    """And which sandboxes it can make now: an engine may have been started or have ended."""
    backends = list(available_backends(settings.CHILD_ENVIRONMENT))
    Worker.objects.filter(id=worker_id).update(
        heartbeat_at=timezone.now(), sandbox_backends=backends
    )


@worker_ready.connect
def _enter(sender: Any, **_: Any) -> None:
    worker = report(sender.hostname, sorted(sender.app.amqp.queues.consume_from))
    logger.info("worker %s: online for %s", worker.name, ", ".join(worker.queues))
    threading.Thread(target=beat, args=[worker.id], daemon=True, name="heartbeat").start()
    take_up(worker)


@worker_shutting_down.connect
def _shut_down(**_: Any) -> None:
    SHUTDOWN.set()


@worker_shutdown.connect
def _leave(sender: Any, **_: Any) -> None:
    Worker.objects.filter(name=sender.hostname).update(stopped_at=timezone.now())
