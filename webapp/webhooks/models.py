"""Addresses that are told when something ends, and what each was told.

A delivery's row is the message and its log in one. What may be told is in `announce`, how it is sent
in `deliver`. This app knows nothing of runs.
"""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from webapp.webhooks.signature import new_secret

MAX_URL_CHARS = 500


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def enabled(self) -> "WebhookQuerySet":
        return self.filter(disabled_at=None)


class Webhook(models.Model):
    """Where a user wants to be told about what is theirs."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhooks"
    )
    url = models.CharField(max_length=MAX_URL_CHARS)
    secret = models.CharField(max_length=80, default=new_secret)
    """Signs what is sent; kept as it is, for a digest signs nothing."""
    created_at = models.DateTimeField(default=timezone.now)
    disabled_at = models.DateTimeField(null=True, blank=True)
    """When the receiver said that it is gone for good."""

    objects: ClassVar[Any] = WebhookQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["created_at", "id"]

    def __str__(self) -> str:
        return self.url


class DeliveryStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> "DeliveryQuerySet":
        return self.filter(status=DeliveryStatus.PENDING, due_at__lte=timezone.now())


class Delivery(models.Model):
    """One message to one webhook, and how often it was tried."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    """Also the message's `webhook-id`: the same at each attempt."""
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    type = models.CharField(max_length=40)
    body = models.TextField()
    """The JSON as it is signed and sent."""
    status = models.CharField(max_length=10, choices=DeliveryStatus, default=DeliveryStatus.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    """When the next attempt may begin."""
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    """Of the last attempt that was answered."""
    error = models.TextField(blank=True)
    """What went wrong at the last attempt: one sentence for people."""
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = DeliveryQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]
        indexes: ClassVar = [models.Index(fields=["status", "due_at"])]

    def __str__(self) -> str:
        return f"{self.type} to {self.webhook_id}: {self.status}"
