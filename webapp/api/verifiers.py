"""Verifiers over the API: list and register them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from webapp.api.problems import ProblemsOut
from webapp.verifiers import registry
from webapp.verifiers.models import Verifier, VerifierKind

router = Router(tags=["verifiers"])


class VerifierOut(Schema):
    """`heldout` is its quality on tasks that it never saw: AUC, Brier score, calibration error; empty when unknown."""

    id: UUID
    name: str
    kind: VerifierKind
    path: str
    endpoint: str
    base_model: str
    max_tokens: int
    heldout: dict[str, Any]
    created_at: datetime


class VerifiersOut(Schema):
    verifiers: list[VerifierOut]


class VerifierIn(Schema):
    """What to register. `measured` is the content of verifier.json; left out, the file is read where the folder is here."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "starter-judge", "path": "var/verifiers/starter-judge"},
                {"name": "judge-14b", "path": "judge", "endpoint": "http://judge:8000/v1"},
                {"name": "tests-14b", "path": "m", "endpoint": "http://m:8000/v1", "kind": "tests"},
            ]
        },
    )

    name: str = Field(max_length=80)
    path: str = Field(max_length=500)
    endpoint: str = Field("", max_length=500)
    kind: VerifierKind = VerifierKind.JUDGE
    measured: dict[str, Any] | None = None


@router.get("", response=VerifiersOut)
def list_verifiers(request: HttpRequest) -> dict[str, Any]:
    """Of all users, by name."""
    return {"verifiers": Verifier.objects.all()}


@router.post("", response={201: VerifierOut, 422: ProblemsOut})
def register(request: HttpRequest, payload: VerifierIn) -> Status[Any]:
    """Make a model one that can be chosen to verify evaluations."""
    owner = request.user if request.user.is_authenticated else None
    try:
        return Status(201, registry.register(**payload.model_dump(), owner=owner))
    except registry.RegistryError as error:
        return Status(422, {"problems": [{"field": error.field, "message": str(error)}]})
