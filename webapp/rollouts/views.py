"""Pages of groups and rollouts: what the agents wrote, changed and were graded."""

import json
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from webapp.rollouts.diffs import DiffError, file_diffs
from webapp.rollouts.grades import result_rows, stored_log
from webapp.rollouts.models import Group, Rollout, Turn
from webapp.rollouts.plaintext import every_character, plain
from webapp.rollouts.siblings import distinct_patches, siblings
from webapp.rollouts.transcript import shown_turn
from webapp.tasksets.models import Task

TABS = ("transcript", "patch", "tests", "tokens", "raw")


def group_page(request: HttpRequest, group_id: UUID) -> HttpResponse:
    group = get_object_or_404(Group.objects.select_related("run", "evaluation"), pk=group_id)
    rollouts = list(group.rollouts.order_by("index").prefetch_related("turns"))
    context = {
        "group": group,
        "run": group.whole,
        "evaluation": group.evaluation,
        "rollouts_of": "evaluation" if group.evaluation else "run",
        "rollouts": rollouts,
        "siblings": siblings(rollouts),
        "patches": distinct_patches(rollouts),
        "split": _split(request),
        "prompt": plain(group.prompt),
    }
    return render(request, "rollouts/group.html", context)


def transcript_page(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    rollout = _rollout(rollout_id)
    context = {
        **_frame(rollout, "transcript"),
        "turns": [shown_turn(turn) for turn in rollout.turns.all()],
        "prompt": plain(rollout.group.prompt),
        "last_seq": rollout.whole.last_seq,
    }
    return render(request, "rollouts/transcript.html", context)


def turn_fragment(request: HttpRequest, rollout_id: UUID, number: int) -> HttpResponse:
    """One turn of a transcript that is still being written."""
    turn = get_object_or_404(Turn, rollout_id=rollout_id, index=number - 1)
    return render(request, "rollouts/_turn.html", {"turn": shown_turn(turn), "fresh": True})


def patch_page(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    rollout = _rollout(rollout_id)
    context = {**_frame(rollout, "patch"), "split": _split(request), **_diffs(rollout.patch)}
    return render(request, "rollouts/patch.html", context)


def tests_page(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    rollout = _rollout(rollout_id)
    task = Task.objects.filter(task_id=rollout.task).first()
    context = {
        **_frame(rollout, "tests"),
        "results": result_rows(rollout.tests, task.expected_output if task else {}),
        "log": stored_log(rollout.files.get("test_log", "")),
    }
    return render(request, "rollouts/tests.html", context)


def tokens_page(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    rollout = _rollout(rollout_id)
    turns = list(rollout.turns.all())
    context = {
        **_frame(rollout, "tokens"),
        "turns": [shown_turn(turn) for turn in turns],
        "most_tokens": max((t.num_prompt_tokens + t.num_sampled_tokens for t in turns), default=1),
        "most_seconds": max((t.generate_s + t.tool_s for t in turns), default=1.0),
        "generate_s": sum(t.generate_s for t in turns),
        "tool_s": sum(t.tool_s for t in turns),
    }
    return render(request, "rollouts/tokens.html", context)


def raw_page(request: HttpRequest, rollout_id: UUID) -> HttpResponse:
    """All that is stored of the rollout, as JSON."""
    rollout = _rollout(rollout_id)
    left_out = ("id", "rollout_id")
    turns = [{k: v for k, v in row.items() if k not in left_out} for row in rollout.turns.values()]
    own = Rollout.objects.filter(pk=rollout.pk).values().get()
    text = json.dumps({**own, "turns": turns}, indent=2, default=str, ensure_ascii=False)
    return render(request, "rollouts/raw.html", {**_frame(rollout, "raw"), "raw": plain(text)})


def _rollout(rollout_id: UUID) -> Rollout:
    return get_object_or_404(
        Rollout.objects.select_related("run", "evaluation", "group"), pk=rollout_id
    )


def _frame(rollout: Rollout, tab: str) -> dict[str, Any]:
    """Header, tabs, and the way to the siblings."""
    rows = rollout.group.rollouts.light().order_by("index")
    members = list(rows)
    place = next(i for i, member in enumerate(members) if member.pk == rollout.pk)
    number = TABS.index(tab)
    return {
        "rollout": rollout,
        "group": rollout.group,
        "run": rollout.whole,
        "evaluation": rollout.evaluation,
        "rollouts_of": "evaluation" if rollout.evaluation else "run",
        "live": rollout.in_flight and not rollout.superseded and rollout.whole.is_live,
        "members": members,
        "previous": members[place - 1] if place else None,
        "next": members[place + 1] if place + 1 < len(members) else None,
        "tab": tab,
        "tabs": [(f"rollouts:{'rollout' if t == 'transcript' else t}", t) for t in TABS],
        "previous_tab": TABS[number - 1] if number else "",
        "next_tab": TABS[number + 1] if number + 1 < len(TABS) else "",
    }


def _diffs(patch: str) -> dict[str, Any]:
    """Files of the patch, or why it cannot be read as one."""
    try:
        return {"files": file_diffs(patch), "fault": ""}
    except DiffError as error:
        return {"files": (), "fault": str(error), "patch_text": every_character(patch)}


def _split(request: HttpRequest) -> bool:
    view = request.GET.get("view", "unified")
    if view not in ("unified", "split"):
        raise Http404(f"no view {view!r}; use unified or split")
    return view == "split"
