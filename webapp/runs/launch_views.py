"""Pages that start, stop and resume runs. What each action does is `lifecycle`'s matter."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from trainer.config import ConfigError
from trainer.recipes import load_recipe, recipe_names
from webapp.runs import lifecycle
from webapp.runs.configs import recipe_data
from webapp.runs.forms import RunForm, fit_to_taskset
from webapp.runs.models import Run
from webapp.runs.outlook import outlook


@require_http_methods(["GET", "POST"])
def new_run(request: HttpRequest) -> HttpResponse:
    """Choose a recipe, change fields, see the cost, launch. `?clone=` fills in another run's
    configuration.
    """
    cloned = _cloned(request)
    if cloned and (fault := _no_longer(cloned)):
        messages.error(request, f"{cloned.name} cannot be cloned: {fault}")
        return redirect("runs:run", cloned.pk)
    form = _form(request, cloned)
    if request.method == "POST" and form.is_valid():
        run = lifecycle.launch(
            config=form.config,
            name=form.cleaned_data["name"],
            owner=request.user if request.user.is_authenticated else None,
            cloned_from=cloned,
        )
        return redirect("runs:run", run.pk)
    context = {
        **_context(form, cloned),
        "recipes": [load_recipe(name) for name in recipe_names()],
    }
    return render(request, "runs/new.html", context, status=422 if form.errors else 200)


@require_POST
def adapted_form(request: HttpRequest) -> HttpResponse:
    """The form as it was sent, fitted to the taskset that was just chosen in it."""
    cloned = _cloned(request)
    recipe, base, name = _starting_point(request, cloned)
    data, left_out = fit_to_taskset(request.POST, base)
    form = RunForm(data, recipe=recipe, base=base, name=name)
    return render(request, "runs/_form.html", {**_context(form, cloned), "left_out": left_out})


@require_POST
def estimate_panel(request: HttpRequest) -> HttpResponse:
    """The cost of the form as it stands, and what is wrong with it."""
    form = _form(request, _cloned(request))
    return render(request, "runs/_estimate.html", {"form": form, "outlook": outlook(form)})


@require_POST
def stop_run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _changeable(request, run_id)
    if not lifecycle.request_stop(run, by=request.user.get_username()):
        messages.error(request, f"{run.name} has already ended.")
    return redirect("runs:run", run.pk)


@require_POST
def resume_run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _changeable(request, run_id)
    if not lifecycle.resume(run):
        messages.error(request, f"{run.name} cannot go on: it is live or all its steps are done.")
    return redirect("runs:run", run.pk)


def _changeable(request: HttpRequest, run_id: UUID) -> Run:
    run = get_object_or_404(Run, pk=run_id)
    if not lifecycle.may_change(request.user, run):
        raise PermissionDenied
    return run


def _cloned(request: HttpRequest) -> Run | None:
    clone = request.GET.get("clone") or request.POST.get("clone")
    if not clone:
        return None
    try:
        return get_object_or_404(Run, pk=UUID(clone))
    except ValueError as error:
        raise Http404(f"{clone!r} is no run") from error


def _no_longer(run: Run) -> str:
    """Why its configuration is none any more; empty when it is one."""
    try:
        run.config_with({})
    except ConfigError as error:
        return f"its configuration is none of this version's: {error}"
    return ""


def _form(request: HttpRequest, cloned: Run | None) -> RunForm:
    data = request.POST if request.method == "POST" else None
    recipe, base, name = _starting_point(request, cloned)
    return RunForm(data, recipe=recipe, base=base, name=name)


def _context(form: RunForm, cloned: Run | None) -> dict[str, Any]:
    return {
        "form": form,
        "recipe": form.base["recipe"],
        "cloned": cloned,
        "outlook": outlook(form),
    }


def _starting_point(
    request: HttpRequest, cloned: Run | None
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Recipe, what fills the form, and a name."""
    if cloned:
        # with the defaults of fields that are newer than it
        whole = cloned.config_with({}).model_dump(mode="json")
        return recipe_data(cloned.recipe), whole, f"{cloned.name} (clone)"
    name = request.POST.get("recipe") or request.GET.get("recipe") or recipe_names()[0]
    try:
        recipe = load_recipe(name).model_dump(mode="json")
    except ConfigError as error:
        raise Http404(str(error)) from error
    return recipe, recipe, name
