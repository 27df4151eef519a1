"""The addresses of the `evaluations` app."""

from django.urls import path

from webapp.evaluations import views

app_name = "evaluations"

urlpatterns = [
    path("evaluations/", views.evaluation_list, name="list"),
    path("evaluations/new/", views.new_evaluation, name="new"),
    path("evaluations/compare/", views.comparison_page, name="compare"),
    path("evaluations/sweeps/<uuid:sweep_id>/", views.sweep_page, name="sweep"),
    path(
        "evaluations/sweeps/<uuid:sweep_id>/figures.json", views.sweep_figures, name="sweep-figures"
    ),
    path("evaluations/<uuid:evaluation_id>/", views.evaluation_page, name="evaluation"),
    path("evaluations/<uuid:evaluation_id>/header/", views.evaluation_header, name="header"),
    path("evaluations/<uuid:evaluation_id>/tasks/", views.evaluation_tasks, name="tasks"),
    path("evaluations/<uuid:evaluation_id>/figures.json", views.evaluation_figures, name="figures"),
    path("evaluations/<uuid:evaluation_id>/stop/", views.stop_evaluation, name="stop"),
    path("evaluations/<uuid:evaluation_id>/resume/", views.resume_evaluation, name="resume"),
]
