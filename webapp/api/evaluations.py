"""Evaluations over the API: list, launch, status, events, results, cancel, resume."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from ninja.errors import HttpError
from pydantic import ConfigDict, Field

from trainer.config import ConfigError
from trainer.evaluations.config import load_evaluation_recipe
from webapp.api.idempotency import PARAMETER, idempotent
from webapp.api.paging import Offset
from webapp.api.problems import ProblemsOut, refusal
from webapp.api.runs import EventsOut
from webapp.assessments.selection import curves_of, selection_of
from webapp.evaluations import lifecycle
from webapp.evaluations.models import Evaluation, EvaluationStatus, ShardEvent
from webapp.evaluations.overview import Progress, summary_of
from webapp.evaluations.predictions import predictions
from webapp.rollouts.models import Rollout

router = Router(tags=["evaluations"])

MAX_EVENTS = 1000


class ShardOut(Schema):
    number: int
    total: int
    status: EvaluationStatus
    reason: str
    last_seq: int


class EvaluationOut(Schema):
    id: UUID
    name: str
    status: EvaluationStatus
    reason: str
    waiting_for: str
    owner: str | None
    model: str
    taskset: str
    group_size: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def resolve_owner(row: Evaluation) -> str | None:
        return row.owner.get_username() if row.owner else None

    @staticmethod
    def resolve_waiting_for(row: Evaluation, context: dict[str, Any] | None) -> str:
        # the rows of one answer share it
        shared = {} if context is None else context
        return lifecycle.waiting_for(row, shared.setdefault("workers", lifecycle.QueueWorkers()))

    @staticmethod
    def resolve_model(row: Evaluation) -> str:
        return row.model_name

    @staticmethod
    def resolve_taskset(row: Evaluation) -> str:
        return str(row.config["tasks"]["taskset"])


class EvaluationDetailOut(EvaluationOut):
    """With progress: `num_scored` of `num_wanted` rollouts have a score."""

    config: dict[str, Any]
    shards: list[ShardOut]
    num_tasks: int
    num_wanted: int
    num_scored: int

    @staticmethod
    def resolve_shards(row: Evaluation) -> list[Any]:
        return list(row.shards.all())

    @staticmethod
    def resolve_num_tasks(row: Evaluation) -> int:
        return Progress([row]).num_tasks(row)

    @staticmethod
    def resolve_num_wanted(row: Evaluation) -> int:
        return Progress([row]).wanted(row)

    @staticmethod
    def resolve_num_scored(row: Evaluation) -> int:
        return Progress([row]).num_scored(row)


class EvaluationsOut(Schema):
    evaluations: list[EvaluationOut]
    total: int


class EvaluationIn(Schema):
    """What to launch. `changes` is nested like the recipe: `{"rollout": {"group_size": 16}}`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "recipe": "starter",
                    "name": "step 16, held out",
                    "num_shards": 2,
                    "changes": {
                        "model": {"path": "var/runs/…/checkpoints/step_16"},
                        "tasks": {"taskset": "starter", "split": "heldout"},
                        "sandbox": {"backend": "kubernetes"},
                    },
                }
            ]
        },
    )

    recipe: str = "starter"
    name: str = Field("", max_length=120)
    num_shards: Annotated[int, Field(ge=1, le=lifecycle.MAX_SHARDS)] = 1
    changes: dict[str, Any] = {}


class EstimateOut(Schema):
    value: float
    low: float
    high: float
    num_tasks: int
    num_rollouts: int


class CountsOut(Schema):
    """Tests that hold for the patch: the repository's own that passed before, and cases that reproduced the issue."""

    regression: int
    reproduction: int


class ResultOut(Schema):
    """One rollout that counts."""

    id: UUID
    task: str
    index: int
    outcome: str
    termination_reason: str
    reward: float | None
    flags: list[str]
    num_turns: int
    num_sampled_tokens: int
    num_response_tokens: int
    seconds: float
    grade_s: float
    reason: str
    scores: dict[str, float]
    """By verifier that judges."""
    test_counts: dict[str, CountsOut]
    """By verifier that runs tests."""

    @staticmethod
    def resolve_scores(row: Rollout) -> dict[str, float]:
        scores = {result.verifier.name: result.score for result in row.results.all()}
        return {name: score for name, score in scores.items() if score is not None}

    @staticmethod
    def resolve_test_counts(row: Rollout) -> dict[str, Any]:
        ran = [result for result in row.results.all() if result.score is None]
        return {result.verifier.name: result for result in ran}


class ResultsOut(Schema):
    """`curves` has pass@k, and best@k by method and verifier, for k = 1, 2, ...

    `results` are the rollouts in the order of tasks and indices.
    """

    pass_at_1: EstimateOut | None
    curves: dict[str, list[float]]
    endings: dict[str, int]
    flags: dict[str, int]
    results: list[ResultOut]
    total: int


@router.get("", response=EvaluationsOut)
def list_evaluations(
    request: HttpRequest,
    status: EvaluationStatus | None = None,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Newest first."""
    rows = Evaluation.objects.select_related("owner")
    if status:
        rows = rows.filter(status=status)
    return {"evaluations": rows[offset : offset + limit], "total": rows.count()}


@router.post("", response={201: EvaluationDetailOut, 422: ProblemsOut}, openapi_extra=PARAMETER)
@idempotent(EvaluationDetailOut)
def launch(request: HttpRequest, payload: EvaluationIn) -> Status[Any]:
    """Queue an evaluation of a recipe, with `changes` laid over it, in shards that workers take."""
    try:
        config = load_evaluation_recipe(payload.recipe, payload.changes)
        lifecycle.check_key(config, request.user)
    except ConfigError as error:
        return refusal(error)
    evaluation = lifecycle.launch(
        config=config,
        name=payload.name or payload.recipe,
        owner=request.user if request.user.is_authenticated else None,
        num_shards=payload.num_shards,
    )
    return Status(201, evaluation)


@router.get("/{uuid:evaluation_id}", response=EvaluationDetailOut)
def read_evaluation(request: HttpRequest, evaluation_id: UUID) -> Evaluation:
    """Its configuration, its shards, and how far it is."""
    return _evaluation(evaluation_id)


@router.get("/{uuid:evaluation_id}/results", response=ResultsOut)
def read_results(
    request: HttpRequest,
    evaluation_id: UUID,
    task: str = "",
    limit: Annotated[int, Field(ge=0, le=10000)] = 1000,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Rates, curves, and the rollouts that they come from; those without a score have reward null."""
    evaluation = _evaluation(evaluation_id)
    summary = summary_of(evaluation)
    rollouts = evaluation.counted_rollouts().defer("patch", "tests", "files")
    rollouts = rollouts.prefetch_related("results__verifier").order_by("task", "index")
    if task:
        rollouts = rollouts.filter(task=task)
    found = summary.pass_1
    return {
        "pass_at_1": found and found._asdict() | found.interval._asdict(),
        "curves": curves_of(summary, selection_of(evaluation)),
        "endings": summary.endings,
        "flags": summary.flags,
        "results": rollouts[offset : offset + limit],
        "total": rollouts.count(),
    }


@router.get("/{uuid:evaluation_id}/predictions.jsonl")
def read_predictions(
    request: HttpRequest, evaluation_id: UUID, index: Annotated[int, Field(ge=0)] = 0
) -> StreamingHttpResponse:
    """SWE-bench predictions, one line an instance: the patches of each task's rollout `index` that has a score."""
    evaluation = _evaluation(evaluation_id)
    rollouts = evaluation.counted_rollouts().filter(index=index).exclude(reward=None)
    lines = predictions(rollouts.order_by("task"), evaluation.model_name)
    return StreamingHttpResponse(lines, content_type="application/jsonl")


@router.get("/{uuid:evaluation_id}/events", response=EventsOut)
def list_events(
    request: HttpRequest,
    evaluation_id: UUID,
    shard: Annotated[int, Field(ge=1)] = 1,
    after: Annotated[int, Field(ge=0)] = 0,
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = MAX_EVENTS,
) -> dict[str, Any]:
    """Events of one shard with seq > after, in order; ask again with after=last_seq."""
    rows = ShardEvent.objects.filter(
        shard__evaluation=_evaluation(evaluation_id), shard__number=shard, seq__gt=after
    )
    events = [row.as_written for row in rows.order_by("seq")[:limit]]
    return {"events": events, "last_seq": events[-1]["seq"] if events else after}


@router.post("/{uuid:evaluation_id}/cancel", response={202: EvaluationDetailOut})
def cancel(request: HttpRequest, evaluation_id: UUID) -> Status[Evaluation]:
    """Give up what is under way, within seconds. What has a score stays, and it can be resumed."""
    evaluation = _changeable(request, evaluation_id)
    if not lifecycle.request_stop(evaluation, by=request.user.get_username()):
        raise HttpError(409, f"The evaluation is {evaluation.status}: it has already ended.")
    return Status(202, _evaluation(evaluation_id))


@router.post("/{uuid:evaluation_id}/resume", response={202: EvaluationDetailOut})
def resume(request: HttpRequest, evaluation_id: UUID) -> Status[Evaluation]:
    """Do what has no score yet."""
    evaluation = _changeable(request, evaluation_id)
    if not lifecycle.resume(evaluation):
        raise HttpError(
            409, f"The evaluation is {evaluation.status}: {lifecycle.why_not(evaluation)}."
        )
    return Status(202, _evaluation(evaluation_id))


def _evaluation(evaluation_id: UUID) -> Evaluation:
    return get_object_or_404(Evaluation.objects.select_related("owner"), id=evaluation_id)


def _changeable(request: HttpRequest, evaluation_id: UUID) -> Evaluation:
    evaluation = _evaluation(evaluation_id)
    if not lifecycle.may_change(request.user, evaluation):
        raise HttpError(403, "Only the evaluation's owner and staff may do this.")
    return evaluation
