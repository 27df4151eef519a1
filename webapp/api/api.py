"""The REST API: what the pages show, for scripts. `/api/docs` has addresses and schemas.

A session or `Authorization: Bearer TOKEN` is needed everywhere.
"""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest
from django.urls import URLPattern
from ninja import NinjaAPI
from ninja.security import HttpBearer, SessionAuth

from webapp.api import assessments, evaluations, health, rollouts, runs, sweeps, verifiers
from webapp.api.models import ApiToken


class TokenAuth(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> Any:
        user = ApiToken.user_of(token)
        if user:
            request.user = user
        return user


api = NinjaAPI(title="DeepSWE Studio", version="1", auth=[TokenAuth(), SessionAuth(csrf=True)])

api.add_router("", health.router)
api.add_router("", rollouts.router)
api.add_router("/runs", runs.router)
api.add_router("/evaluations/sweeps", sweeps.router)
api.add_router("/evaluations", evaluations.router)
api.add_router("/evaluations", assessments.router)
api.add_router("/verifiers", verifiers.router)

api_urls = api.urls
for _pattern in api_urls[0]:
    if isinstance(_pattern, URLPattern) and _pattern.name not in ("openapi-json", "openapi-view"):
        # The API answers 401 itself; LoginRequiredMiddleware would send scripts to a page.
        login_not_required(_pattern.callback)
