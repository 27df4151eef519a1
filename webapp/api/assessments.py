"""Assessments of an evaluation that has ended, over the API: verify it, grade it again, watch and cancel that."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from ninja.errors import HttpError
from pydantic import ConfigDict, Field

from webapp.api.idempotency import PARAMETER, idempotent
from webapp.assessments import lifecycle
from webapp.assessments.models import Assessment, Kind
from webapp.evaluations.lifecycle import may_change
from webapp.evaluations.models import Evaluation
from webapp.leased_jobs import JobStatus
from webapp.verifiers.models import Verifier

router = Router(tags=["evaluations"])


class AssessmentOut(Schema):
    """`num_done` of `num_wanted` rollouts have a score of the verifier, or a new grade."""

    id: UUID
    evaluation_id: UUID
    kind: Kind
    verifier: str | None
    status: JobStatus
    reason: str
    waiting_for: str
    num_done: int
    num_wanted: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def resolve_verifier(row: Assessment) -> str | None:
        return row.verifier.name if row.verifier else None

    @staticmethod
    def resolve_waiting_for(row: Assessment) -> str:
        return lifecycle.waiting_for(row)


class AssessmentsOut(Schema):
    assessments: list[AssessmentOut]


class VerifyIn(Schema):
    model_config = ConfigDict(extra="forbid")

    verifier: str = Field(examples=["starter-judge"])
    """Name of a registered one."""


@router.get("/{uuid:evaluation_id}/assessments", response=AssessmentsOut)
def list_assessments(request: HttpRequest, evaluation_id: UUID) -> dict[str, Any]:
    """Verifications and regradings, the newest first."""
    evaluation = get_object_or_404(Evaluation, id=evaluation_id)
    return {"assessments": evaluation.assessments.select_related("verifier", "evaluation")}


@router.get("/{uuid:evaluation_id}/assessments/{uuid:assessment_id}", response=AssessmentOut)
def read_assessment(request: HttpRequest, evaluation_id: UUID, assessment_id: UUID) -> Assessment:
    """How far it is."""
    return _assessment(evaluation_id, assessment_id)


@router.post("/{uuid:evaluation_id}/verify", response={202: AssessmentOut}, openapi_extra=PARAMETER)
@idempotent(AssessmentOut)
def verify(request: HttpRequest, evaluation_id: UUID, payload: VerifyIn) -> Status[Assessment]:
    """Let a verifier score every rollout that has a reward; scores that are known are not asked for again.

    While the same is under way, that is answered.
    """
    evaluation = _changeable(request, evaluation_id)
    verifier = get_object_or_404(Verifier, name=payload.verifier)
    return _begin(request, evaluation, Kind.VERIFY, verifier)


@router.post(
    "/{uuid:evaluation_id}/regrade", response={202: AssessmentOut}, openapi_extra=PARAMETER
)
@idempotent(AssessmentOut)
def regrade(request: HttpRequest, evaluation_id: UUID) -> Status[Assessment]:
    """Grade the stored patches again, each in a fresh sandbox; the new grades count from then on.

    While the same is under way, that is answered. With a key it is safe to send again after its end too.
    """
    return _begin(request, _changeable(request, evaluation_id), Kind.REGRADE)


@router.post(
    "/{uuid:evaluation_id}/assessments/{uuid:assessment_id}/cancel", response={202: AssessmentOut}
)
def cancel(request: HttpRequest, evaluation_id: UUID, assessment_id: UUID) -> Status[Assessment]:
    """End it within seconds. What has a score or a new grade keeps it."""
    _changeable(request, evaluation_id)
    assessment = _assessment(evaluation_id, assessment_id)
    stopped = Assessment.objects.filter(pk=assessment.pk)
    if not stopped.request_stop(by=request.user.get_username()):
        raise HttpError(409, f"The assessment is {assessment.status}: it has already ended.")
    return Status(202, _assessment(evaluation_id, assessment_id))


def _begin(
    request: HttpRequest, evaluation: Evaluation, kind: Kind, verifier: Verifier | None = None
) -> Status[Assessment]:
    try:
        begun = lifecycle.request(evaluation, kind, verifier=verifier, owner=request.user)
    except lifecycle.RefusedError as error:
        raise HttpError(409, str(error)) from error
    return Status(202, begun)


def _assessment(evaluation_id: UUID, assessment_id: UUID) -> Assessment:
    rows = Assessment.objects.select_related("verifier", "evaluation")
    found: Assessment = get_object_or_404(rows, evaluation=evaluation_id, id=assessment_id)
    return found


def _changeable(request: HttpRequest, evaluation_id: UUID) -> Evaluation:
    evaluation = get_object_or_404(Evaluation, id=evaluation_id)
    if not may_change(request.user, evaluation):
        raise HttpError(403, "Only the evaluation's owner and staff may do this.")
    return evaluation
