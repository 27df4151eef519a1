"""What Celery calls. Each job takes an id, looks at the rows, and may run twice without harm."""

from uuid import UUID

from celery import shared_task

from webapp.runs import workers
from webapp.tasksets import validations
from webapp.tasksets.supervise_validation import supervise_validation


@shared_task(name="tasksets.validate")
def validate(validation_id: str) -> None:
    """Supervise a validation to its end."""
    if not workers.SHUTDOWN.is_set():
        supervise_validation(UUID(validation_id), workers.SHUTDOWN)


@shared_task(name="tasksets.reap")
def reap() -> None:
    validations.reap()
