"""The `rollouts` app."""

from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "webapp.rollouts"
    default_auto_field = "django.db.models.BigAutoField"
