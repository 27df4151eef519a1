"""Pages that show runs. They read; what starts and stops a run is in `launch_views`."""

from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Prefetch, Subquery, TextField
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django_htmx.middleware import HtmxDetails

from trainer.recipes import recipe_names
from webapp.rollouts.models import Turn
from webapp.rollouts.transcript import shown_turn
from webapp.runs import charts, placement
from webapp.runs.configs import compared_sections, recipe_data
from webapp.runs.forms import AxesForm
from webapp.runs.header import header
from webapp.runs.listing import filtered_runs, page_of_rows
from webapp.runs.log import LEVELS, log_lines
from webapp.runs.models import Event, Run, RunStatus, Worker
from webapp.runs.resting import resting
from webapp.runs.step_groups import group_rows
from webapp.sandboxes import sweeps
from webapp.sandboxes.overview import overview


class HtmxRequest(HttpRequest):
    """As django_htmx's middleware leaves it."""

    htmx: HtmxDetails


LIVE_FINISHED = 24
"""Rollouts that ended last, shown below those in flight."""


def run_list(request: HtmxRequest) -> HttpResponse:
    page, rows = page_of_rows(filtered_runs(request.GET), request.GET.get("page"))
    context = {
        "page": page,
        "rows": rows,
        "statuses": RunStatus.choices,
        "recipes": recipe_names(),
        "filtered": any(request.GET.get(name) for name in ("q", "status", "recipe")),
        "sort": request.GET.get("sort", "-age"),
    }
    return render(request, "runs/_rows.html" if request.htmx else "runs/list.html", context)


def run_page(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _run(run_id)
    axes = AxesForm(request.GET)
    context = {
        **header(request.user, run),
        "sections": charts.SECTIONS,
        "figures": _figures(run, axes),
        "axes": axes,
        "resting": resting(run),
        "tab": "overview",
    }
    return render(request, "runs/run.html", context)


def resting_tasks(request: HttpRequest, run_id: UUID) -> HttpResponse:
    return render(request, "runs/_resting.html", {"resting": resting(_run(run_id))})


def run_header(request: HttpRequest, run_id: UUID) -> HttpResponse:
    return render(request, "runs/_header.html", header(request.user, _run(run_id)))


def run_figures(request: HttpRequest, run_id: UUID) -> JsonResponse:
    return JsonResponse({"figures": _figures(_run(run_id), AxesForm(request.GET))})


def live_page(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _run(run_id)
    context = {**header(request.user, run), **_live_rows(request, run), "tab": "live"}
    if followed_id := context["followed_id"]:
        followed = get_object_or_404(run.rollouts, pk=followed_id)
        turns = [shown_turn(turn) for turn in followed.turns.all()]
        context |= {"followed": followed, "followed_turns": turns}
    return render(request, "runs/live.html", context)


def live_rows(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _run(run_id)
    return render(request, "runs/_live_rows.html", {"run": run, **_live_rows(request, run)})


def step_list(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _run(run_id)
    rows = list(run.steps.order_by("-step", "-attempt"))
    return render(
        request, "runs/steps.html", {**header(request.user, run), "rows": rows, "tab": "steps"}
    )


def step_page(request: HttpRequest, run_id: UUID, number: int) -> HttpResponse:
    """The step's groups, also while it is under way; 404 when nothing of it has begun."""
    run = _run(run_id)
    purpose = "evaluation" if request.GET.get("purpose") == "evaluation" else "train"
    rows = group_rows(run, number, purpose)
    row = run.steps.filter(step=number, superseded=False).first()
    evaluation = run.evaluations.filter(step=number, superseded=False).first()
    if not (rows or row or evaluation):
        raise Http404(f"step {number} has not begun")
    context = {
        **header(request.user, run),
        "number": number,
        "purpose": purpose,
        "row": row,
        "evaluation": evaluation,
        "group_rows": rows,
        "tab": "steps",
    }
    return render(request, "runs/step.html", context)


def config_page(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _run(run_id)
    sections = compared_sections(run.config, recipe_data(run.recipe))
    return render(
        request,
        "runs/config.html",
        {**header(request.user, run), "sections": sections, "tab": "config"},
    )


def log_page(request: HtmxRequest, run_id: UUID) -> HttpResponse:
    run = _run(run_id)
    level = request.GET.get("level", "info")
    before = request.GET.get("before", "")
    lines = log_lines(run, level=level, before=int(before) if before.isdecimal() else None)
    context = {"run": run, "lines": lines, "level": level, "levels": LEVELS, "tab": "log"}
    if request.htmx:
        return render(request, "runs/_log_lines.html", context)
    return render(request, "runs/log.html", {**header(request.user, run), **context})


def worker_list(request: HttpRequest) -> HttpResponse:
    live = Prefetch("runs", queryset=Run.objects.live().defer("config"), to_attr="live_runs")
    workers = list(Worker.objects.prefetch_related(live).order_by("name"))
    context = {
        "workers": workers,
        "num_online": sum(worker.is_online for worker in workers),
        "sandboxes": overview(),
        "may_sweep": sweeps.may_sweep(request.user),
    }
    return render(request, "runs/workers.html", context)


def _run(run_id: UUID) -> Run:
    rows = Run.objects.select_related("owner", "worker", "cloned_from")
    return get_object_or_404(rows, pk=run_id)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Http404(f"{text!r} is no id") from error


def _figures(run: Run, form: AxesForm) -> dict[str, charts.Figure]:
    steps = run.steps.filter(superseded=False).order_by("step")
    evaluations = run.evaluations.filter(superseded=False).order_by("step")
    curves = charts.Curves(list(steps), list(evaluations), form.axes(), run.num_steps)
    return charts.run_figures(curves)


def _live_rows(request: HttpRequest, run: Run) -> dict[str, Any]:
    rollouts = run.rollouts.filter(superseded=False).light()
    in_flight = rollouts.filter(finished_at=None).annotate(**_last_call()) if run.is_live else []
    followed = request.GET.get("rollout")
    return {
        "in_flight": list(in_flight),
        "ended": list(rollouts.exclude(finished_at=None).order_by("-finished_at")[:LIVE_FINISHED]),
        "followed_id": _uuid(followed) if followed else None,
        "waiting": placement.waiting_for(run),
        "phase": Event.objects.filter(run=run, type="phase").order_by("-seq").first(),
    }


def _command() -> Coalesce:
    """Of whichever tool: execute_bash names it cmd."""
    return Coalesce(KT("arguments__cmd"), KT("arguments__command"), output_field=TextField())


def _last_call() -> dict[str, Subquery]:
    last = Turn.objects.filter(rollout=OuterRef("pk")).order_by("-index")
    return {
        "last_tool": Subquery(last.values("tool")[:1]),
        "last_command": Subquery(last.values(command=_command())[:1]),
    }
