"""Buttons of the settings page for webhooks. A secret is in one answer only: that to its making."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from webapp.api.views import settings_context
from webapp.webhooks import deliver
from webapp.webhooks.announce import queue
from webapp.webhooks.forms import WebhookForm
from webapp.webhooks.models import Delivery, Webhook

TEST = "webhook.test"


@never_cache
@require_POST
def add_webhook(request: HttpRequest) -> HttpResponse:
    """Answers with the page that shows the secret; a redirect would have to keep it somewhere."""
    assert request.user.is_authenticated
    form = WebhookForm(request.POST)
    shown: dict[str, Any] = {"webhook_form": form}
    if form.is_valid():
        webhook = Webhook.objects.create(user=request.user, url=form.cleaned_data["url"])
        shown = {"new_webhook": webhook}
    context = settings_context(request) | shown
    return render(request, "accounts/settings.html", context, status=422 if form.errors else 201)


@require_POST
def remove_webhook(request: HttpRequest, webhook_id: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook, pk=webhook_id, user=request.user)
    webhook.delete()
    messages.success(request, f"{webhook.url} is told nothing any more.")
    return redirect("settings")


@require_POST
def test_webhook(request: HttpRequest, webhook_id: int) -> HttpResponse:
    webhook = get_object_or_404(Webhook.objects.enabled(), pk=webhook_id, user=request.user)
    queue(webhook, TEST, {"text": "This address is told when your runs end."})
    return redirect("settings")


@require_POST
def send_again(request: HttpRequest, delivery_id: UUID) -> HttpResponse:
    delivery = get_object_or_404(Delivery, pk=delivery_id, webhook__user=request.user)
    if not deliver.again(delivery):
        messages.error(request, "That message is being sent already.")
    return redirect("settings")
