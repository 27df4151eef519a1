"""The addresses of the `assessments` app. What they lead to is shown on the evaluation's page."""

from django.urls import path

from webapp.assessments import views

app_name = "assessments"

urlpatterns = [
    path("evaluations/<uuid:evaluation_id>/selection/", views.selection_panel, name="panel"),
    path("evaluations/<uuid:evaluation_id>/verify/", views.verify, name="verify"),
    path("evaluations/<uuid:evaluation_id>/regrade/", views.regrade, name="regrade"),
    path("evaluations/<uuid:evaluation_id>/assessment/stop/", views.stop, name="stop"),
]
