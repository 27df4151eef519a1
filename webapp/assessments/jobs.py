"""What Celery calls. Each job takes an id, looks at the rows, and may run twice without harm."""

from typing import Any
from uuid import UUID

from celery import shared_task

from webapp.assessments import lifecycle
from webapp.assessments.supervise import supervise
from webapp.runs import workers
from webapp.runs.models import Worker


@shared_task(bind=True, name="assessments.assess")
def assess(self: Any, assessment_id: str) -> None:
    """Supervise an assessment to its end."""
    if not workers.SHUTDOWN.is_set():
        worker = Worker.objects.filter(name=self.request.hostname).first()
        supervise(UUID(assessment_id), worker, workers.SHUTDOWN)


@shared_task(name="assessments.reap")
def reap() -> None:
    lifecycle.reap()
