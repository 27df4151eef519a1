"""`manage.py api_token USER NAME`: make a token for scripts and print it, this once."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from webapp.api.models import ApiToken


class Command(BaseCommand):
    help = "Print a new API token: Authorization: Bearer TOKEN."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user")
        parser.add_argument("name", help="what the token is for")

    def handle(self, *, user: str, name: str, **options: Any) -> None:
        found = User.objects.filter(username=user, is_active=True).first()
        if found is None:
            raise CommandError(f"user {user}: not found")
        self.stdout.write(ApiToken.issue(found, name))
