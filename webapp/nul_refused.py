"""A request with a NUL character is refused: PostgreSQL stores and compares no text that holds one.

Forms refuse it by themselves, beside the field.
"""

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.utils.deprecation import MiddlewareMixin

_AS_JSON = b"\\u0000"
"""Raw NUL is no JSON. A text that only quotes this escape is refused with it, which spares reading each body twice."""


class NulRefusedMiddleware(MiddlewareMixin):
    """Looks at the address and at bodies of JSON."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        if "\0" in request.path or any("\0" in text for text in _query(request)):
            return _refusal(request, "address")
        if request.content_type == "application/json" and _AS_JSON in request.body:
            return _refusal(request, "body")
        return None


def _query(request: HttpRequest) -> Iterator[str]:
    for name, values in request.GET.lists():
        yield from (name, *values)


def _refusal(request: HttpRequest, place: str) -> HttpResponse:
    detail = f"The {place} holds a NUL character: leave it out."
    if request.path.startswith("/api/"):
        return JsonResponse({"detail": detail}, status=400)
    return HttpResponseBadRequest(detail, content_type="text/plain")
