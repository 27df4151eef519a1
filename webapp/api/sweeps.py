"""Sweeps over context limits, over the API: launch one evaluation a limit by one call, and read pass@1 against the limit."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from trainer.config import ConfigError
from trainer.evaluations.config import load_evaluation_recipe
from webapp.api.evaluations import EstimateOut, EvaluationIn
from webapp.api.idempotency import PARAMETER, idempotent
from webapp.api.problems import ProblemsOut
from webapp.evaluations import lifecycle, sweeps
from webapp.evaluations.models import ContextSweep, EvaluationStatus

router = Router(tags=["evaluations"])


class PointOut(Schema):
    """One evaluation. `cut_off` is the share of its rollouts that the limit ended."""

    context_limit: int
    evaluation: UUID
    status: EvaluationStatus
    num_scored: int
    num_wanted: int
    pass_at_1: EstimateOut | None
    cut_off: float | None


class SweepOut(Schema):
    id: UUID
    name: str
    created_at: datetime
    points: list[PointOut]

    @staticmethod
    def resolve_points(row: ContextSweep) -> list[dict[str, Any]]:
        return [_point(point) for point in sweeps.points_of(row)]


class SweepIn(EvaluationIn):
    """An evaluation as `POST /api/evaluations` takes it, and the tokens after the prompt of each one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "recipe": "starter",
                    "name": "context",
                    "changes": {"engine": {"max_model_len": 4096}},
                    "context_limits": [400, 800, 1600],
                }
            ]
        },
    )

    context_limits: Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=100)]


@router.post("", response={201: SweepOut, 422: ProblemsOut}, openapi_extra=PARAMETER)
@idempotent(SweepOut)
def launch(request: HttpRequest, payload: SweepIn) -> Status[Any]:
    """Queue one evaluation for each context limit."""
    try:
        config = load_evaluation_recipe(payload.recipe, payload.changes)
        lifecycle.check_key(config, request.user)
        configs = sweeps.configs_of(config, payload.context_limits)
    except ConfigError as error:
        found = [{"field": field, "message": message} for field, message in error.problems]
        return Status(422, {"problems": found})
    sweep = sweeps.launch(
        configs=configs,
        name=payload.name or payload.recipe,
        owner=request.user if request.user.is_authenticated else None,
        num_shards=payload.num_shards,
    )
    return Status(201, sweep)


@router.get("/{uuid:sweep_id}", response=SweepOut)
def read_sweep(request: HttpRequest, sweep_id: UUID) -> ContextSweep:
    """pass@1 against the context limit, the smallest first."""
    return get_object_or_404(ContextSweep, id=sweep_id)


def _point(point: sweeps.Point) -> dict[str, Any]:
    found = point.summary.pass_1
    return {
        "context_limit": point.evaluation.context_limit,
        "evaluation": point.evaluation.pk,
        "status": point.evaluation.status,
        "num_scored": point.num_scored,
        "num_wanted": point.wanted,
        "pass_at_1": found and found._asdict() | found.interval._asdict(),
        "cut_off": point.cut_off,
    }
