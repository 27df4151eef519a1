"""Messages that wake a worker. They only say which row to look at: the rows say what is to be done.

A lost or late message does no harm, since whatever waits is sent again from its row every few seconds.
"""

import logging
from uuid import UUID

from celery import current_app
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

EXPIRES_S = 30


def wake(job: str, row_id: UUID | int) -> None:
    """Ask the workers to run `job` on a row. With no broker in reach it is asked again later."""
    argument = row_id if isinstance(row_id, int) else str(row_id)
    try:
        current_app.send_task(job, [argument], expires=EXPIRES_S)
    except (OperationalError, OSError) as error:
        logger.warning("%s %s: broker unreachable, asked again later: %s", job, row_id, error)
