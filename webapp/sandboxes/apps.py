"""The `sandboxes` app."""

from django.apps import AppConfig


class SandboxesConfig(AppConfig):
    name = "webapp.sandboxes"
    default_auto_field = "django.db.models.BigAutoField"
