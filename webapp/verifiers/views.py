"""The page of verifiers: which there are and how good they were on held-out tasks; register and remove."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from webapp.verifiers import registry
from webapp.verifiers.forms import VerifierForm
from webapp.verifiers.models import Verifier


@require_http_methods(["GET", "POST"])
def verifier_list(request: HttpRequest) -> HttpResponse:
    form = VerifierForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        owner = request.user if request.user.is_authenticated else None
        if verifier := form.save(owner):
            messages.success(request, f"{verifier.name} can be chosen on any ended evaluation.")
            return redirect("verifiers:list")
    verifiers = Verifier.objects.select_related("owner").annotate(
        num_evaluations=Count("results__rollout__evaluation", distinct=True)
    )
    rows = [(verifier, registry.may_remove(request.user, verifier)) for verifier in verifiers]
    context = {"rows": rows, "form": form}
    return render(request, "verifiers/list.html", context, status=422 if form.errors else 200)


@require_POST
def remove_verifier(request: HttpRequest, verifier_id: UUID) -> HttpResponse:
    verifier = get_object_or_404(Verifier, pk=verifier_id)
    if not registry.may_remove(request.user, verifier):
        raise PermissionDenied
    verifier.delete()
    messages.success(request, f"{verifier.name} and its scores are gone; its files stay.")
    return redirect("verifiers:list")
