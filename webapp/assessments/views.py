"""Buttons of an evaluation's page: verify, regrade, stop; and the panel that shows how far it is."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from webapp.assessments import lifecycle
from webapp.assessments.models import Kind
from webapp.assessments.panel import panel
from webapp.assessments.selection import selection_of
from webapp.evaluations.lifecycle import may_change
from webapp.evaluations.models import Evaluation
from webapp.runs.views import HtmxRequest
from webapp.verifiers.models import Verifier


def selection_panel(request: HtmxRequest, evaluation_id: UUID) -> HttpResponse:
    """How far the assessment is; once it has ended, the page with its curves is fetched anew."""
    evaluation = get_object_or_404(Evaluation, pk=evaluation_id)
    context = panel(request, evaluation, selection_of(evaluation))
    response = render(request, "assessments/_panel.html", context)
    if request.htmx and (assessment := context["assessment"]) and assessment.is_ended:
        response["HX-Refresh"] = "true"
    return response


@require_POST
def verify(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    evaluation = _changeable(request, evaluation_id)
    verifier = get_object_or_404(Verifier, name=request.POST.get("verifier", ""))
    return _begin(request, evaluation, Kind.VERIFY, verifier)


@require_POST
def regrade(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    return _begin(request, _changeable(request, evaluation_id), Kind.REGRADE)


@require_POST
def stop(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    evaluation = _changeable(request, evaluation_id)
    if not evaluation.assessments.request_stop(by=request.user.get_username()):
        messages.error(request, f"No assessment of {evaluation.name} is under way.")
    return _back(evaluation)


def _begin(
    request: HttpRequest, evaluation: Evaluation, kind: Kind, verifier: Verifier | None = None
) -> HttpResponse:
    try:
        lifecycle.request(evaluation, kind, verifier=verifier, owner=request.user)
    except lifecycle.RefusedError as error:
        messages.error(request, str(error))
    return _back(evaluation)


def _back(evaluation: Evaluation) -> HttpResponse:
    return redirect(f"{evaluation.get_absolute_url()}#selection")


def _changeable(request: HttpRequest, evaluation_id: UUID) -> Evaluation:
    evaluation = get_object_or_404(Evaluation, pk=evaluation_id)
    if not may_change(request.user, evaluation):
        raise PermissionDenied
    return evaluation
