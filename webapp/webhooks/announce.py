"""Tell a user's webhooks that something ended. Called within the transaction that ends it: the
message is stored with the change or not at all.
"""

import json
from typing import Any

from django.db import transaction
from django.utils import timezone

from webapp.webhooks import deliver
from webapp.webhooks.models import Delivery, Webhook


def announce(owner_id: int | None, kind: str, data: dict[str, Any]) -> None:
    """Queue a message of type `kind` (`run.finished`) for each enabled webhook of the owner."""
    if owner_id is None:
        return
    for webhook in Webhook.objects.enabled().filter(user_id=owner_id):
        queue(webhook, kind, data)


def queue(webhook: Webhook, kind: str, data: dict[str, Any]) -> Delivery:
    """One message, as the specification shapes it: type, timestamp, data."""
    message = {"type": kind, "timestamp": timezone.now().isoformat(), "data": data}
    body = json.dumps(message, separators=(",", ":"))
    delivery: Delivery = Delivery.objects.create(webhook=webhook, type=kind, body=body)
    transaction.on_commit(lambda: deliver.send(delivery.id))
    return delivery
