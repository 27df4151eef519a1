"""Runs over the API: list, one, launch, clone, stop, resume, and what happened after event n."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from ninja.errors import HttpError
from pydantic import ConfigDict, Field

from trainer.config import ConfigError, TrainConfig
from trainer.recipes import load_recipe
from webapp.api.idempotency import PARAMETER, idempotent
from webapp.api.paging import Offset
from webapp.api.problems import ProblemsOut, refusal
from webapp.runs import feed, lifecycle
from webapp.runs.models import Run, RunStatus
from webapp.runs.placement import waiting_for

router = Router(tags=["runs"])


class RunOut(Schema):
    id: UUID
    name: str
    recipe: str
    status: RunStatus
    reason: str
    waiting_for: str
    owner: str | None
    num_steps: int
    current_step: int
    attempt: int
    last_seq: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def resolve_owner(run: Run) -> str | None:
        return run.owner.get_username() if run.owner else None

    @staticmethod
    def resolve_waiting_for(run: Run) -> str:
        return waiting_for(run)


class RunDetailOut(RunOut):
    config: dict[str, Any]


class RunsOut(Schema):
    runs: list[RunOut]
    total: int


class RunIn(Schema):
    """What to launch. `changes` is nested like the recipe: `{"rollout": {"group_size": 4}}`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "recipe": "starter-cpu",
                    "name": "nightly",
                    "changes": {"num_steps": 3, "rollout": {"group_size": 4}},
                }
            ]
        },
    )

    recipe: str
    name: str = Field("", max_length=120)
    changes: dict[str, Any] = {}


class CloneIn(Schema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "again", "changes": {"seed": 7}}]},
    )

    name: str = Field("", max_length=120)
    changes: dict[str, Any] = {}


class EventsOut(Schema):
    """The same events as the websocket sends; ask again with after=last_seq."""

    events: list[dict[str, Any]]
    last_seq: int


@router.get("", response=RunsOut)
def list_runs(
    request: HttpRequest,
    status: RunStatus | None = None,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Newest first."""
    runs = Run.objects.select_related("owner")
    if status:
        runs = runs.filter(status=status)
    return {"runs": runs[offset : offset + limit], "total": runs.count()}


@router.post("", response={201: RunDetailOut, 422: ProblemsOut}, openapi_extra=PARAMETER)
@idempotent(RunDetailOut)
def launch(request: HttpRequest, payload: RunIn) -> Status[Any]:
    """Queue a run of a recipe, with `changes` laid over it."""
    return _launch(request, lambda: load_recipe(payload.recipe, payload.changes), name=payload.name)


@router.get("/{uuid:run_id}", response=RunDetailOut)
def read_run(request: HttpRequest, run_id: UUID) -> Run:
    """One run with its whole configuration."""
    return _run(run_id)


@router.post(
    "/{uuid:run_id}/clone", response={201: RunDetailOut, 422: ProblemsOut}, openapi_extra=PARAMETER
)
@idempotent(RunDetailOut)
def clone(request: HttpRequest, run_id: UUID, payload: CloneIn) -> Status[Any]:
    """Launch a run with the same configuration, but for `changes`."""
    source = _run(run_id)
    return _launch(
        request, lambda: source.config_with(payload.changes), name=payload.name, cloned_from=source
    )


@router.post("/{uuid:run_id}/stop", response={202: RunOut})
def stop(request: HttpRequest, run_id: UUID) -> Status[Run]:
    """Save a checkpoint and end; takes up to the administrator's STOP_GRACE_S and a few seconds."""
    run = _changeable(request, run_id)
    if not lifecycle.request_stop(run, by=request.user.get_username()):
        raise HttpError(409, f"The run is {run.status}: only a queued or live one can be stopped.")
    return Status(202, _run(run_id))


@router.post("/{uuid:run_id}/resume", response={202: RunOut})
def resume(request: HttpRequest, run_id: UUID) -> Status[Run]:
    """Go on from the last checkpoint."""
    run = _changeable(request, run_id)
    if not lifecycle.resume(run):
        raise HttpError(409, f"The run is {run.status}: only a stopped or failed one can resume.")
    return Status(202, _run(run_id))


@router.get("/{uuid:run_id}/events", response=EventsOut)
def list_events(
    request: HttpRequest,
    run_id: UUID,
    after: Annotated[int, Field(ge=0)] = 0,
    limit: Annotated[int, Field(ge=1, le=feed.MAX_EVENTS)] = feed.MAX_EVENTS,
) -> dict[str, Any]:
    """Events with seq > after, in order."""
    events = feed.events_after(_run(run_id).id, after, limit)
    return {"events": events, "last_seq": events[-1]["seq"] if events else after}


def _run(run_id: UUID) -> Run:
    return get_object_or_404(Run.objects.select_related("owner"), id=run_id)


def _changeable(request: HttpRequest, run_id: UUID) -> Run:
    run = _run(run_id)
    if not lifecycle.may_change(request.user, run):
        raise HttpError(403, "Only the run's owner and staff may do this.")
    return run


def _launch(
    request: HttpRequest,
    configure: Callable[[], TrainConfig],
    *,
    name: str,
    cloned_from: Run | None = None,
) -> Status[Any]:
    try:
        config = configure()
    except ConfigError as error:
        return refusal(error)
    owner = request.user if request.user.is_authenticated else None
    run = lifecycle.launch(
        config=config, name=name or config.recipe, owner=owner, cloned_from=cloned_from
    )
    return Status(201, run)
