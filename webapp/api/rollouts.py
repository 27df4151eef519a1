"""Rollouts over the API: those of a run, and one with all its turns."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema
from pydantic import Field

from webapp.api.paging import Offset
from webapp.rollouts.models import Rollout
from webapp.runs.models import Run

router = Router(tags=["rollouts"])


class RolloutOut(Schema):
    id: UUID
    run_id: UUID | None
    evaluation_id: UUID | None
    group_id: UUID
    index: int
    task: str
    step: int
    purpose: Literal["train", "evaluation"]
    attempt: int
    superseded: bool
    policy_version: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    termination_reason: str
    flags: list[str]
    reward: float | None
    advantage: float | None
    filtered: bool
    num_turns: int
    num_prompt_tokens: int
    num_sampled_tokens: int
    num_response_tokens: int
    seconds: float
    grade_s: float
    reason: str


class TurnOut(Schema):
    index: int
    time: datetime
    text: str
    thought: str
    tool: str
    arguments: dict[str, str]
    error: str
    observation: str
    observation_truncated: bool
    exit_code: int | None
    num_prompt_tokens: int
    num_sampled_tokens: int
    generate_s: float
    tool_s: float


class RolloutDetailOut(RolloutOut):
    prompt: str
    tests: dict[str, str]
    patch: str
    turns: list[TurnOut]

    @staticmethod
    def resolve_prompt(rollout: Rollout) -> str:
        return rollout.group.prompt


class RolloutsOut(Schema):
    rollouts: list[RolloutOut]
    total: int


@router.get("/runs/{uuid:run_id}/rollouts", response=RolloutsOut)
def list_rollouts(
    request: HttpRequest,
    run_id: UUID,
    step: int | None = None,
    task: str = "",
    purpose: Literal["train", "evaluation", ""] = "",
    limit: Annotated[int, Field(ge=1, le=1000)] = 100,
    offset: Offset = 0,
) -> dict[str, Any]:
    """In order of step and index, superseded ones included."""
    wanted = {"step": step, "task": task or None, "purpose": purpose or None}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    rollouts = (
        get_object_or_404(Run, id=run_id)
        .rollouts.filter(**chosen)
        .order_by("step", "group_id", "index")
    )
    return {"rollouts": rollouts[offset : offset + limit], "total": rollouts.count()}


@router.get("/rollouts/{uuid:rollout_id}", response=RolloutDetailOut)
def read_rollout(request: HttpRequest, rollout_id: UUID) -> Rollout:
    """One rollout with its prompt, turns, patch and tests."""
    rollouts = Rollout.objects.select_related("group").prefetch_related("turns")
    return get_object_or_404(rollouts, id=rollout_id)
