"""`Idempotency-Key`: a launch that is sent again, since its answer was lost, launches nothing more.

The answer of a success is kept for KEPT with the digest of its request. The same key and request get
that answer again, the same key and another request get 422. A request that is refused or fails
leaves its key free. Of two at once, the second waits for the first one's transaction: a unique row
decides, on PostgreSQL as on SQLite.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from ninja import Schema, Status
from ninja.errors import HttpError

from webapp.api.models import MAX_KEY_CHARS, KeptAnswer

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
REUSED = "was used for another request within the last 24 hours; send a new key, or the same request again"
PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": HEADER,
            "required": False,
            "description": (
                "Any text that is new for each launch, a UUID for example. Sent again with the same "
                "request within 24 hours, it gets the first answer and launches nothing; with another "
                "request, 422."
            ),
            "schema": {"type": "string", "maxLength": MAX_KEY_CHARS},
            "example": "5f2c7c1e-6d0f-4f0a-9f53-0e1f6a3b1c55",
        }
    ]
}
"""For `openapi_extra` of an operation."""

Operation = Callable[..., Any]


class KeyRefusedError(Exception):
    """The key says nothing, or something else than before; the message tells which."""


def idempotent(answer: type[Schema]) -> Callable[[Operation], Operation]:
    """Of an operation that returns a Status, with a row of `answer` on success and problems with 422:
    once for each key of a user.
    """

    def decorate(operation: Operation) -> Operation:
        @wraps(operation)
        def once(request: HttpRequest, **arguments: Any) -> Any:
            key = request.headers.get(HEADER)
            if key is None:
                return operation(request, **arguments)
            try:
                with transaction.atomic():
                    kept = _take(request, key)
                    if kept is None:
                        return _replay(request, key)
                    return _keep(kept, operation(request, **arguments), answer)
            except KeyRefusedError as error:
                return Status(422, {"problems": [{"field": HEADER, "message": str(error)}]})

        return once

    return decorate


def _take(request: HttpRequest, key: str) -> KeptAnswer | None:
    """The key's row, made now; None when there is one."""
    assert request.user.is_authenticated
    if not 0 < len(key) <= MAX_KEY_CHARS:
        raise KeyRefusedError(f"has {len(key)} characters; use 1 to {MAX_KEY_CHARS}")
    mine = KeptAnswer.objects.filter(user=request.user)
    mine.filter(created_at__lt=timezone.now() - KEPT).delete()
    try:
        with transaction.atomic():
            return KeptAnswer.objects.create(
                user=request.user, key=key, request_digest=_digest(request)
            )
    except IntegrityError:
        return None


def _replay(request: HttpRequest, key: str) -> HttpResponse:
    assert request.user.is_authenticated
    kept = KeptAnswer.objects.get(user=request.user, key=key)
    if kept.request_digest != _digest(request):
        raise KeyRefusedError(f"{key!r} {REUSED}")
    return JsonResponse(kept.body, status=kept.status, headers={"Idempotency-Replayed": "true"})


def _keep(kept: KeptAnswer, result: Any, answer: type[Schema]) -> Any:
    if not isinstance(result, Status) or result.status_code >= 300:
        kept.delete()
        return result
    kept.status = result.status_code
    kept.body = answer.from_orm(result.value).model_dump(mode="json")
    kept.save(update_fields=["status", "body"])
    return JsonResponse(kept.body, status=kept.status)


def _digest(request: HttpRequest) -> str:
    """Of what is asked for; spaces and the order of names in the JSON say nothing. Raises HttpError, 400 for no JSON."""
    try:
        body = json.loads(request.body) if request.body else None
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "Cannot parse request body") from error
    asked = [request.method, request.path, body]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
