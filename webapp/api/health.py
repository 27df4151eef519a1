"""Whether the parts that a run needs are there."""

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.runs.models import Run, RunStatus, Worker

router = Router(tags=["health"])


class HealthOut(Schema):
    status: str
    """ok, or "no workers": nothing that is queued would start."""
    workers: list[str]
    queued: int
    live: int


@router.get("/health", response=HealthOut)
def health(request: HttpRequest) -> dict[str, Any]:
    """Answers only with a database; `workers` are those online."""
    workers = list(Worker.objects.online().values_list("name", flat=True))
    return {
        "status": "ok" if workers else "no workers",
        "workers": workers,
        "queued": Run.objects.filter(status=RunStatus.QUEUED).count(),
        "live": Run.objects.live().count(),
    }
