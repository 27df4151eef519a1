"""The addresses of the `tasksets` app."""

from django.urls import path

from webapp.tasksets import views

app_name = "tasksets"

urlpatterns = [
    path("tasksets/", views.taskset_list, name="list"),
    path("tasksets/<str:name>/", views.taskset_page, name="taskset"),
    path("tasksets/<str:name>/validation/", views.validation_panel, name="validation"),
    path("tasksets/<str:name>/validate/", views.validate, name="validate"),
    path("tasksets/<str:name>/validate/stop/", views.stop_validation, name="stop-validation"),
    path("tasks/<path:task_id>/", views.task_page, name="task"),
]
