"""Pages of evaluations: the list, one with its curves and tasks, two side by side, a sweep, a new one, stop and resume."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from trainer.config import ConfigError
from trainer.evaluations.config import evaluation_recipes, load_evaluation_recipe
from trainer.evaluations.summary import Summary
from webapp.assessments.panel import panel
from webapp.assessments.selection import Selection, curves_of, selection_of
from webapp.evaluations import charts, lifecycle, sweeps
from webapp.evaluations.comparisons import compare
from webapp.evaluations.forms import EvaluationForm
from webapp.evaluations.models import ContextSweep, Evaluation, EvaluationStatus
from webapp.evaluations.overview import Progress, summary_of
from webapp.evaluations.tasks import SHOWN, page_of_tasks
from webapp.runs.charts import Figure
from webapp.runs.models import Run
from webapp.runs.views import HtmxRequest

PAGE_SIZE = 25


def evaluation_list(request: HtmxRequest) -> HttpResponse:
    evaluations = Evaluation.objects.select_related("owner")
    if status := request.GET.get("status"):
        evaluations = evaluations.filter(status=status)
    if text := request.GET.get("q"):
        evaluations = evaluations.filter(name__icontains=text)
    page = Paginator(evaluations, PAGE_SIZE).get_page(request.GET.get("page"))
    progress = Progress(list(page.object_list))
    rows = [
        {
            "evaluation": row,
            "pass_1": progress.pass_at_1(row),
            "num_scored": progress.num_scored(row),
            "wanted": progress.wanted(row),
        }
        for row in page.object_list
    ]
    filtered = any(request.GET.get(name) for name in ("q", "status"))
    context = {
        "page": page,
        "rows": rows,
        "statuses": EvaluationStatus.choices,
        "filtered": filtered,
    }
    name = "evaluations/_rows.html" if request.htmx else "evaluations/list.html"
    return render(request, name, context)


def evaluation_page(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    evaluation = _evaluation(evaluation_id)
    summary, chosen = summary_of(evaluation), selection_of(evaluation)
    others = Evaluation.objects.exclude(pk=evaluation.pk).only("name", "created_at")[:50]
    context = {
        **_header(request, evaluation, summary, chosen),
        **_tasks(request, evaluation),
        **panel(request, evaluation, chosen),
        "charts": charts.charts_of(summary),
        "figures": charts.figures(summary, curves_of(summary, chosen)),
        "others": others,
    }
    return render(request, "evaluations/evaluation.html", context)


def evaluation_header(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    evaluation = _evaluation(evaluation_id)
    context = _header(request, evaluation, summary_of(evaluation), selection_of(evaluation))
    response = render(request, "evaluations/_header.html", context)
    if evaluation.is_ended:
        response["HX-Refresh"] = "true"
    return response


def evaluation_tasks(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    context = _tasks(request, _evaluation(evaluation_id))
    return render(request, "evaluations/_tasks.html", context)


def evaluation_figures(request: HttpRequest, evaluation_id: UUID) -> JsonResponse:
    evaluation = _evaluation(evaluation_id)
    summary = summary_of(evaluation)
    lines = curves_of(summary, selection_of(evaluation))
    return JsonResponse({"figures": charts.figures(summary, lines)})


def comparison_page(request: HttpRequest) -> HttpResponse:
    """Of `?first=` and `?second=`."""
    first, second = (_named(request, name) for name in ("first", "second"))
    summaries = summary_of(first), summary_of(second)
    context = {
        "first": first,
        "second": second,
        "summaries": summaries,
        "comparison": compare(first, second),
        "chart": charts.CURVES,
        "figures": {
            "curves": charts.comparison(*summaries, (f"A {first.name}", f"B {second.name}"))
        },
    }
    return render(request, "evaluations/comparison.html", context)


@require_http_methods(["GET", "POST"])
def new_evaluation(request: HttpRequest) -> HttpResponse:
    """Choose a recipe, change fields, launch. `?run=` evaluates that run's newest checkpoint."""
    form = _form(request)
    if request.method == "POST" and form.is_valid():
        return redirect(_launch(request, form))
    context = {
        "form": form,
        "recipe": form.base["recipe"],
        "recipes": [load_evaluation_recipe(name) for name in evaluation_recipes()],
    }
    return render(request, "evaluations/new.html", context, status=422 if form.errors else 200)


def _launch(request: HttpRequest, form: EvaluationForm) -> Evaluation | ContextSweep:
    """What the form says: one evaluation, or one for each context limit."""
    told: dict[str, Any] = {
        "name": form.cleaned_data["name"],
        "owner": request.user if request.user.is_authenticated else None,
        "num_shards": form.cleaned_data["num_shards"],
    }
    if form.configs:
        return sweeps.launch(configs=form.configs, **told)
    return lifecycle.launch(config=form.config, **told)


def sweep_page(request: HtmxRequest, sweep_id: UUID) -> HttpResponse:
    """pass@1 against the context limit; its rows alone for htmx."""
    sweep = get_object_or_404(ContextSweep.objects.select_related("owner"), pk=sweep_id)
    points = sweeps.points_of(sweep)
    context = {
        "sweep": sweep,
        "points": points,
        "chart": charts.LIMITS,
        "figures": _sweep_figures(points),
        "under_way": not all(point.evaluation.is_ended for point in points),
    }
    name = "evaluations/_points.html" if request.htmx else "evaluations/sweep.html"
    return render(request, name, context)


def sweep_figures(request: HttpRequest, sweep_id: UUID) -> JsonResponse:
    sweep = get_object_or_404(ContextSweep, pk=sweep_id)
    return JsonResponse({"figures": _sweep_figures(sweeps.points_of(sweep))})


def _sweep_figures(points: list[sweeps.Point]) -> dict[str, Figure]:
    scored = [
        (point.evaluation.context_limit, point.summary.pass_1)
        for point in points
        if point.summary.pass_1
    ]
    return {charts.LIMITS.name: charts.against_limit(scored)}


@require_POST
def stop_evaluation(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    evaluation = _changeable(request, evaluation_id)
    if not lifecycle.request_stop(evaluation, by=request.user.get_username()):
        messages.error(request, f"{evaluation.name} has already ended.")
    return redirect("evaluations:evaluation", evaluation.pk)


@require_POST
def resume_evaluation(request: HttpRequest, evaluation_id: UUID) -> HttpResponse:
    evaluation = _changeable(request, evaluation_id)
    if not lifecycle.resume(evaluation):
        messages.error(request, f"{evaluation.name} cannot go on: {lifecycle.why_not(evaluation)}.")
    return redirect("evaluations:evaluation", evaluation.pk)


def _evaluation(evaluation_id: UUID) -> Evaluation:
    """With its shards: most of a page asks for them."""
    rows = Evaluation.objects.select_related("owner", "sweep").prefetch_related("shards__worker")
    return get_object_or_404(rows, pk=evaluation_id)


def _named(request: HttpRequest, name: str) -> Evaluation:
    try:
        return _evaluation(UUID(request.GET.get(name, "")))
    except ValueError as error:
        raise Http404(f"{name}: needs the id of an evaluation") from error


def _changeable(request: HttpRequest, evaluation_id: UUID) -> Evaluation:
    evaluation = _evaluation(evaluation_id)
    if not lifecycle.may_change(request.user, evaluation):
        raise PermissionDenied
    return evaluation


def _header(
    request: HttpRequest, evaluation: Evaluation, summary: Summary, chosen: Selection
) -> dict[str, Any]:
    progress, lines = Progress([evaluation]), curves_of(summary, chosen)
    shown = {*summary.curves, *chosen.verified}
    return {
        "evaluation": evaluation,
        "summary": summary,
        "curves": {name: line for name, line in lines.items() if name in shown},
        "wanted": progress.wanted(evaluation),
        "num_scored": progress.num_scored(evaluation),
        "shards": evaluation.shards.all(),
        "waiting": lifecycle.waiting_for(evaluation),
        "may_change": lifecycle.may_change(request.user, evaluation),
    }


def _tasks(request: HttpRequest, evaluation: Evaluation) -> dict[str, Any]:
    page, rows = page_of_tasks(evaluation, request.GET)
    return {
        "evaluation": evaluation,
        "page": page,
        "task_rows": rows,
        "rules": [choice.rule for choice in rows[0].chosen] if rows else [],
        "shown": SHOWN.items(),
    }


def _form(request: HttpRequest) -> EvaluationForm:
    data = request.POST if request.method == "POST" else None
    name = request.POST.get("recipe") or request.GET.get("recipe") or "starter"
    try:
        recipe = load_evaluation_recipe(name).model_dump(mode="json")
    except ConfigError as error:
        raise Http404(str(error)) from error
    base, title = recipe, name
    if run := _run(request.GET.get("run", "")):
        base = recipe | {"model": recipe["model"] | {"path": run.run_dir}}
        title = f"{run.name}, newest checkpoint"
    form = EvaluationForm(data, recipe=recipe, base=base, name=title)
    form.user = request.user
    return form


def _run(text: str) -> Run | None:
    if not text:
        return None
    try:
        return get_object_or_404(Run, pk=UUID(text))
    except ValueError as error:
        raise Http404(f"{text!r} is no run") from error
