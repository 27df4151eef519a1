"""The websocket addresses."""

from django.urls import URLPattern, path

from webapp.runs.consumers import RunConsumer

websocket_urlpatterns: list[URLPattern] = [
    path("ws/runs/<uuid:run_id>/", RunConsumer.as_asgi()),
]
