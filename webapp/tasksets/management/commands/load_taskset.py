"""`manage.py load_taskset starter`: show a taskset on the pages."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sandbox.task import TasksetError
from webapp.tasksets.load import load


class Command(BaseCommand):
    help = "Enter a taskset, bundled or by folder, into the database; again to refresh it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("taskset", help="name of a bundled taskset, or a taskset folder")

    def handle(self, *, taskset: str, **options: Any) -> None:
        try:
            loaded = load(taskset)
        except TasksetError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{loaded.name}: {loaded.tasks.count()} tasks")
