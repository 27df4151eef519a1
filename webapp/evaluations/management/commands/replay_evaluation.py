"""`manage.py replay_evaluation FOLDER`: show an evaluation that was made in a shell, or rebuild the rows of one."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webapp.evaluations.replay import ReplayError, replay
from webapp.runs.event_files import IngestError


class Command(BaseCommand):
    help = "Rebuild the rows of the evaluation whose folder this is, from its files alone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument("--name", default="", help="of an evaluation that is new here")
        parser.add_argument(
            "--copy-files", action="store_true", help="put its large files into the storage too"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            evaluation = replay(
                options["folder"], name=options["name"], copy_files=options["copy_files"]
            )
        except (ReplayError, IngestError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"evaluation {evaluation.id}: {evaluation.status}. {evaluation.reason}")
