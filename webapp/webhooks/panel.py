"""What the settings page shows of a user's webhooks: where they go, and the newest deliveries."""

from typing import Any

from django.contrib.auth.models import User

from webapp.webhooks.deliver import MAX_ATTEMPTS
from webapp.webhooks.forms import WebhookForm
from webapp.webhooks.models import Delivery, Webhook

MAX_DELIVERIES = 20


def webhook_context(user: User) -> dict[str, Any]:
    deliveries = Delivery.objects.filter(webhook__user=user).select_related("webhook")
    return {
        "webhook_form": WebhookForm(),
        "webhooks": Webhook.objects.filter(user=user),
        "deliveries": deliveries[:MAX_DELIVERIES],
        "max_attempts": MAX_ATTEMPTS,
    }
