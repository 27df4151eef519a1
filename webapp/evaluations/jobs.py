"""What Celery calls. Each job takes an id, looks at the rows, and may run twice without harm."""

from typing import Any

from celery import shared_task

from webapp.evaluations import lifecycle
from webapp.evaluations.supervise import supervise_shard
from webapp.runs import workers
from webapp.runs.models import Worker


@shared_task(bind=True, name="evaluations.run_shard")
def run_shard(self: Any, shard_id: int) -> None:
    """Supervise a shard to its end."""
    if not workers.SHUTDOWN.is_set():
        worker = Worker.objects.filter(name=self.request.hostname).first()
        supervise_shard(shard_id, worker, workers.SHUTDOWN)


@shared_task(name="evaluations.reap")
def reap() -> None:
    lifecycle.reap()
