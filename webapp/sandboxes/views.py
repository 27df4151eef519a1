"""Buttons of the workers page: look for sandboxes again, remove those that nobody holds."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from webapp.sandboxes import sweeps


@require_POST
def look(request: HttpRequest) -> HttpResponse:
    return _request(request, removes=False)


@require_POST
def remove_expired(request: HttpRequest) -> HttpResponse:
    return _request(request, removes=True)


def _request(request: HttpRequest, *, removes: bool) -> HttpResponse:
    if not sweeps.may_sweep(request.user):
        raise PermissionDenied
    if not sweeps.request(removes=removes, owner=request.user):
        messages.error(request, "That is under way already.")
    return redirect("runs:workers")
