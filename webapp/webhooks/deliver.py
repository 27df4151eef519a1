"""From a queued message to its receipt: at least once, later and later while nobody answers.

The row says what is to be done; a Celery message only wakes a worker, and `reap` sends those again
that are due. An attempt moves the row's `due_at` before it begins, by a conditional update, so that
of two workers one sends, and the attempt of a worker that dies is made up for after LEASE.

    pending -> delivered (an answer of 2xx) | failed (410, a forbidden address, no attempt left)
"""

import logging
import socket
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from django.utils import timezone

from webapp.wake import wake
from webapp.webhooks import destination
from webapp.webhooks.models import Delivery, DeliveryStatus, Webhook
from webapp.webhooks.signature import signed_headers

logger = logging.getLogger(__name__)

WAITS = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
]
"""After each attempt but the last: the schedule that the specification recommends."""
MAX_ATTEMPTS = len(WAITS) + 1
LEASE = timedelta(seconds=4 * destination.TIMEOUT_S)
"""An attempt that told nothing after so long is taken for lost."""
GONE = 410
KEEP = timedelta(days=30)
MAX_SENT_AGAIN = 200
"""By one `reap`."""


def send(delivery_id: UUID) -> None:
    """Ask a worker to deliver it. Lost or late messages do no harm: `reap` sends again."""
    wake("webhooks.deliver", delivery_id)


def deliver(delivery_id: UUID) -> None:
    """One attempt, when one is due. Safe to run twice."""
    delivery = _take(delivery_id)
    if delivery is None:
        return
    webhook = delivery.webhook
    headers = signed_headers(
        webhook.secret, f"msg_{delivery.id.hex}", timezone.now(), delivery.body
    )
    try:
        status = destination.post(webhook.url, headers, delivery.body)
    except destination.RefusedError as error:
        _end(delivery, DeliveryStatus.FAILED, error=f"Not sent: {error}.")
    except socket.gaierror as error:
        _missed(delivery, error=f"The name cannot be resolved: {error.strerror}.")
    except TimeoutError:
        _missed(delivery, error=f"No answer within {destination.TIMEOUT_S:.0f} s.")
    except (OSError, httpx.HTTPError) as error:
        _missed(delivery, error=f"No answer: {error or type(error).__name__}.")
    else:
        _answered(delivery, status)


def again(delivery: Delivery) -> bool:
    """Queue an ended delivery anew, with all its attempts. False when it is pending."""
    queued = {"status": DeliveryStatus.PENDING, "attempts": 0, "due_at": timezone.now()}
    ended = Delivery.objects.filter(id=delivery.id).exclude(status=DeliveryStatus.PENDING)
    if ended.update(ended_at=None, **queued) != 1:
        return False
    send(delivery.id)
    return True


def reap() -> None:
    """What no message brings about: run it every few seconds, anywhere."""
    for delivery_id in Delivery.objects.due().values_list("id", flat=True)[:MAX_SENT_AGAIN]:
        send(delivery_id)
    Delivery.objects.filter(ended_at__lt=timezone.now() - KEEP).delete()


def _take(delivery_id: UUID) -> Delivery | None:
    """Begin an attempt. None when none is due, or another worker has begun it."""
    due = Delivery.objects.due().filter(id=delivery_id)
    delivery: Delivery | None = due.select_related("webhook").first()
    if delivery is None:
        return None
    tried = delivery.attempts
    delivery.attempts = tried + 1
    lost_at = timezone.now() + LEASE
    taken = due.filter(attempts=tried).update(attempts=tried + 1, due_at=lost_at)
    return delivery if taken == 1 else None


def _answered(delivery: Delivery, status: int) -> None:
    if 200 <= status < 300:
        _end(delivery, DeliveryStatus.DELIVERED, response_status=status, error="")
    elif status == GONE:
        Webhook.objects.filter(id=delivery.webhook_id).update(disabled_at=timezone.now())
        error = "The receiver says that it is gone: the webhook is switched off."
        _end(delivery, DeliveryStatus.FAILED, response_status=status, error=error)
    else:
        _missed(delivery, response_status=status, error=f"The answer was {status}, not 2xx.")


def _missed(delivery: Delivery, **told: Any) -> None:
    """Try again later, if there is an attempt left."""
    if delivery.attempts >= MAX_ATTEMPTS:
        _end(delivery, DeliveryStatus.FAILED, **told)
    else:
        _change(delivery, due_at=timezone.now() + WAITS[delivery.attempts - 1], **told)


def _end(delivery: Delivery, status: DeliveryStatus, **told: Any) -> None:
    _change(delivery, status=status, ended_at=timezone.now(), **told)
    logger.info("delivery %s: %s. %s", delivery.id, status.value, told["error"])


def _change(delivery: Delivery, **new: Any) -> None:
    """Unless a later attempt has begun meanwhile."""
    Delivery.objects.filter(id=delivery.id, attempts=delivery.attempts).update(**new)
