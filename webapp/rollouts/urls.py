"""The addresses of the `rollouts` app."""

from django.urls import path

from webapp.rollouts import views

app_name = "rollouts"

urlpatterns = [
    path("groups/<uuid:group_id>/", views.group_page, name="group"),
    path("rollouts/<uuid:rollout_id>/", views.transcript_page, name="rollout"),
    path("rollouts/<uuid:rollout_id>/turns/<int:number>/", views.turn_fragment, name="turn"),
    path("rollouts/<uuid:rollout_id>/patch/", views.patch_page, name="patch"),
    path("rollouts/<uuid:rollout_id>/tests/", views.tests_page, name="tests"),
    path("rollouts/<uuid:rollout_id>/tokens/", views.tokens_page, name="tokens"),
    path("rollouts/<uuid:rollout_id>/raw/", views.raw_page, name="raw"),
]
