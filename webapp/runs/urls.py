"""The addresses of the `runs` app."""

from django.urls import path

from webapp.runs import launch_views, views

app_name = "runs"

urlpatterns = [
    path("runs/", views.run_list, name="list"),
    path("runs/new/", launch_views.new_run, name="new"),
    path("runs/new/adapt/", launch_views.adapted_form, name="adapt"),
    path("runs/new/estimate/", launch_views.estimate_panel, name="estimate"),
    path("runs/<uuid:run_id>/", views.run_page, name="run"),
    path("runs/<uuid:run_id>/header/", views.run_header, name="header"),
    path("runs/<uuid:run_id>/figures.json", views.run_figures, name="figures"),
    path("runs/<uuid:run_id>/resting/", views.resting_tasks, name="resting"),
    path("runs/<uuid:run_id>/live/", views.live_page, name="live"),
    path("runs/<uuid:run_id>/live/rows/", views.live_rows, name="live_rows"),
    path("runs/<uuid:run_id>/steps/", views.step_list, name="steps"),
    path("runs/<uuid:run_id>/steps/<int:number>/", views.step_page, name="step"),
    path("runs/<uuid:run_id>/config/", views.config_page, name="config"),
    path("runs/<uuid:run_id>/log/", views.log_page, name="log"),
    path("runs/<uuid:run_id>/stop/", launch_views.stop_run, name="stop"),
    path("runs/<uuid:run_id>/resume/", launch_views.resume_run, name="resume"),
    path("workers/", views.worker_list, name="workers"),
]
