"""What Celery calls. Each job takes an id, looks at the rows, and may run twice without harm."""

from uuid import UUID

from celery import shared_task

from webapp.webhooks import deliver


@shared_task(name="webhooks.deliver")
def deliver_message(delivery_id: str) -> None:
    deliver.deliver(UUID(delivery_id))


@shared_task(name="webhooks.reap")
def reap() -> None:
    deliver.reap()
