"""Pages of tasksets and tasks: what agents are asked to do, and how often they solved it."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Avg, Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from webapp.rollouts.diffs import coloured, file_diffs
from webapp.rollouts.models import Rollout
from webapp.tasksets import validations
from webapp.tasksets.models import Task, Taskset

DIFFICULTIES = ("easy", "middle", "hard")
SPLITS = ("train", "heldout")
PAGE_SIZE = 50
RECENT_ROLLOUTS = 40


def taskset_list(request: HttpRequest) -> HttpResponse:
    counts = {band: Count("tasks", filter=Q(tasks__difficulty=band)) for band in DIFFICULTIES}
    counts |= {split: Count("tasks", filter=Q(tasks__split=split)) for split in SPLITS}
    valid = Count("tasks", filter=Q(tasks__validation__valid=True))
    tasksets = Taskset.objects.annotate(num_tasks=Count("tasks"), num_valid=valid, **counts)
    return render(request, "tasksets/list.html", {"tasksets": tasksets.order_by("name")})


def taskset_page(request: HttpRequest, name: str) -> HttpResponse:
    taskset = get_object_or_404(Taskset, name=name)
    wanted = {key: value for key in ("difficulty", "split") if (value := request.GET.get(key))}
    tasks = taskset.tasks.filter(**wanted).only(
        "taskset_id", "task_id", "difficulty", "split", "validation", "expected_output"
    )
    if text := request.GET.get("q"):
        tasks = tasks.filter(Q(task_id__icontains=text) | Q(problem_statement__icontains=text))
    page = Paginator(tasks, PAGE_SIZE).get_page(request.GET.get("page"))
    rates = _solve_rates([task.task_id for task in page])
    context = {
        "taskset": taskset,
        "page": page,
        "rows": [(task, rates.get(task.task_id)) for task in page],
        "difficulties": DIFFICULTIES,
        "splits": SPLITS,
        **_validation(request, taskset),
    }
    return render(request, "tasksets/taskset.html", context)


def validation_panel(request: HttpRequest, name: str) -> HttpResponse:
    """How far the validation is; once it has ended, the page with its verdicts is fetched anew."""
    taskset = get_object_or_404(Taskset, name=name)
    context = {"taskset": taskset, **_validation(request, taskset)}
    response = render(request, "tasksets/_validation.html", context)
    if request.htmx and not context["under_way"]:  # type: ignore[attr-defined]
        response["HX-Refresh"] = "true"
    return response


@require_POST
def validate(request: HttpRequest, name: str) -> HttpResponse:
    taskset = get_object_or_404(Taskset, name=name)
    if not validations.may_validate(request.user):
        raise PermissionDenied
    if not validations.request(taskset, request.user):
        messages.error(request, f"{taskset.name} is being validated already.")
    return redirect("tasksets:taskset", name)


@require_POST
def stop_validation(request: HttpRequest, name: str) -> HttpResponse:
    taskset = get_object_or_404(Taskset, name=name)
    if not validations.may_validate(request.user):
        raise PermissionDenied
    if not taskset.validations.request_stop(by=request.user.get_username()):
        messages.error(request, f"No validation of {taskset.name} is under way.")
    return redirect("tasksets:taskset", name)


def _validation(request: HttpRequest, taskset: Taskset) -> dict[str, Any]:
    latest = taskset.validations.first()
    return {
        "validation": latest,
        "under_way": latest is not None and latest.is_under_way,
        "may_validate": validations.may_validate(request.user),
    }


def task_page(request: HttpRequest, task_id: str) -> HttpResponse:
    task = get_object_or_404(Task.objects.select_related("taskset"), task_id=task_id)
    counted = Rollout.objects.counted().filter(task=task_id).light()
    context = {
        "task": task,
        "gold": file_diffs(task.gold_patch),
        "files": [(path, coloured(path, text)) for path, text in sorted(task.files.items())],
        "rate": _solve_rates([task_id]).get(task_id),
        "rollouts": list(counted.order_by("-started_at")[:RECENT_ROLLOUTS]),
    }
    return render(request, "tasksets/task.html", context)


def _solve_rates(task_ids: list[str]) -> dict[str, Any]:
    """task -> {mean, count} over all runs, training and evaluation."""
    counted = Rollout.objects.counted().filter(task__in=task_ids).order_by()
    rows = counted.values("task").annotate(mean=Avg("reward"), count=Count("id"))
    return {row["task"]: row for row in rows}
