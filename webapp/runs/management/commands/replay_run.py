"""`manage.py replay_run RUN_DIR`: rebuild a run's rows from its files."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webapp.runs.ingest import IngestError
from webapp.runs.replay import ReplayError, replay


class Command(BaseCommand):
    help = "Rebuild the rows of a run from its folder alone. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run_dir", type=Path)
        parser.add_argument(
            "--copy-files",
            action="store_true",
            help="also copy the large files that are not in the storage yet",
        )

    def handle(self, *, run_dir: Path, copy_files: bool, **options: Any) -> None:
        try:
            run = replay(run_dir, copy_files=copy_files)
        except (ReplayError, IngestError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{run.name} ({run.id}): {run.status}, {run.last_seq} events")
