"""The settings page, and its buttons for API tokens. A token is in one answer only: that to its making."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from webapp.api.forms import TokenForm
from webapp.api.models import ApiToken
from webapp.webhooks.panel import webhook_context


@never_cache
@require_GET
def settings_page(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/settings.html", settings_context(request))


@never_cache
@require_POST
def make_token(request: HttpRequest) -> HttpResponse:
    """Answers with the page that shows the token; a redirect would have to keep it somewhere."""
    assert request.user.is_authenticated
    form = TokenForm(request.POST)
    shown: dict[str, Any] = {"token_form": form}
    if form.is_valid():
        token = ApiToken.issue(request.user, form.cleaned_data["name"], form.expires_at)
        shown = {"new_token": token, "new_token_name": form.cleaned_data["name"]}
    context = settings_context(request) | shown
    return render(request, "accounts/settings.html", context, status=422 if form.errors else 201)


@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    token = get_object_or_404(ApiToken, pk=token_id, user=request.user)
    token.delete()
    messages.success(request, f"The token {token.name} is revoked: it opens nothing any more.")
    return redirect("settings")


def settings_context(request: HttpRequest) -> dict[str, Any]:
    """What the page shows of the user; whoever renders it after a form lays its own over this."""
    assert request.user.is_authenticated
    return {
        "token_form": TokenForm(),
        "tokens": ApiToken.objects.filter(user=request.user),
        "base_url": request.build_absolute_uri("/").rstrip("/"),
        **webhook_context(request.user),
    }
