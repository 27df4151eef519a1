"""`manage.py sign_in_link [USER]`: print another one-time link."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from webapp.runs import studio
from webapp.sign_in import one_time_link


class Command(BaseCommand):
    help = "Print a link that signs a user in once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", nargs="?", help="user name; the first user when left out")

    def handle(self, *, user: str | None, **options: Any) -> None:
        users = User.objects.filter(is_active=True).order_by("id")
        found = users.filter(username=user).first() if user else users.first()
        if found is None:
            known = ", ".join(users.values_list("username", flat=True)) or "none; start the studio"
            raise CommandError(f"user {user or ''}: not found; known: {known}")
        self.stdout.write(one_time_link(found, studio.address()))
