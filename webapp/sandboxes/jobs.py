"""What Celery calls. Each job may run twice without harm."""

from uuid import UUID

from celery import shared_task

from webapp.sandboxes import sweeps


@shared_task(name="sandboxes.sweep")
def sweep(sweep_id: str) -> None:
    sweeps.run(UUID(sweep_id))


@shared_task(name="sandboxes.reap")
def reap() -> None:
    sweeps.keep_up()
