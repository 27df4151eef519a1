"""`manage.py studio`: web server, worker and reaper on one machine, kept up by `runs.studio`."""

import fcntl
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from trainer.recipes import load_recipe
from webapp.runs import lifecycle, studio
from webapp.runs.models import Run, RunStatus
from webapp.sign_in import one_time_link
from webapp.tasksets.load import load

DEMO_RECIPE = "starter-cpu"


class Command(BaseCommand):
    help = "Start the web server and a worker here; Ctrl-C ends both, and saves the runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=studio.DEFAULT_HOST)
        parser.add_argument("--port", type=int, default=studio.DEFAULT_PORT)
        parser.add_argument("--demo", action="store_true", help=f"train {DEMO_RECIPE} right away")

    def handle(self, *, host: str, port: int, demo: bool, **options: Any) -> None:
        with (settings.VAR_DIR / "studio.lock").open("a") as lock:
            self.take_place(lock.fileno(), host, port)
            call_command("migrate", verbosity=0)
            load("starter")
            user = self.user()
            if demo:
                self.queue_demo(user)
            children = [studio.web(host, port), studio.worker()]
            studio.run(children, say=self.say, ready=lambda: self.greet(user, host, port))

    def take_place(self, lock: int, host: str, port: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(f"a studio is already at work on {settings.VAR_DIR}") from error
        if not studio.is_free(host, port):
            raise CommandError(f"port {port} on {host} is taken: choose another with --port")
        studio.keep_place(host, port)

    def user(self) -> User:
        """Whom the printed link signs in: the first user, made when there is none."""
        user = User.objects.filter(is_active=True).order_by("id").first()
        if user is None:
            user = User.objects.create_superuser("studio")
            self.say("made the user 'studio', who has no password: sign in by link")
        return user

    def queue_demo(self, user: User) -> None:
        going = Run.objects.live() | Run.objects.filter(status=RunStatus.QUEUED)
        run = going.filter(recipe=DEMO_RECIPE).first()
        if run:
            self.say(f"run '{run.name}' goes on from step {run.current_step}")
            return
        lifecycle.launch(config=load_recipe(DEMO_RECIPE), name="starter", owner=user)
        self.say(f"queued a run of the recipe {DEMO_RECIPE}")

    def greet(self, user: User, host: str, port: int) -> None:
        if not studio.wait_until_served(host, port):
            self.say(f"the web server does not answer at {host}:{port} yet")
        minutes = settings.SESAME_MAX_AGE // 60
        self.say(f"sign in with this link (once, within {minutes} minutes):")
        self.stdout.write(f"\n    {one_time_link(user, studio.address())}\n")
        self.say("Ctrl-C ends web server, worker and runs; `manage.py sign_in_link` makes a link")

    def say(self, text: str) -> None:
        self.stdout.write(f"studio: {text}")
        self.stdout.flush()
