"""What Celery calls. Each job takes an id, looks at the rows, and may run twice without harm."""

from typing import Any
from uuid import UUID

from celery import shared_task

from webapp.runs import lifecycle, workers
from webapp.runs.models import Worker
from webapp.runs.supervise import supervise


@shared_task(bind=True, name="runs.train_run")
def train_run(self: Any, run_id: str) -> None:
    """Supervise a run to its end, then wake a worker for the next one."""
    worker = Worker.objects.filter(name=self.request.hostname).first()
    if worker is None or workers.SHUTDOWN.is_set():
        return
    supervise(UUID(run_id), worker, workers.SHUTDOWN)
    if not workers.SHUTDOWN.is_set():
        lifecycle.send_next()


@shared_task(name="runs.reap")
def reap() -> None:
    lifecycle.reap()
