"""`manage.py api_token USER NAME`: make a token for scripts and print it, this once."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from webapp.api.models import ApiToken


class Command(BaseCommand):
    help = "Print a new API token: Authorization: Bearer TOKEN."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user")
        parser.add_argument("name", help="what the token is for")
        parser.add_argument("--days", type=int, help="how long it is valid; left out: for ever")

    def handle(self, *, user: str, name: str, days: int | None, **options: Any) -> None:
        found = User.objects.filter(username=user, is_active=True).first()
        if found is None:
            raise CommandError(f"user {user}: not found")
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        self.stdout.write(ApiToken.issue(found, name, expires_at))
