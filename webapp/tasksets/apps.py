"""The `tasksets` app."""

from django.apps import AppConfig


class TasksetsConfig(AppConfig):
    name = "webapp.tasksets"
    default_auto_field = "django.db.models.BigAutoField"
