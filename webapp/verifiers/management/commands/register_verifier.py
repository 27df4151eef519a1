"""`manage.py register_verifier NAME PATH`: make a trained verifier one that can be chosen, where its folder is."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webapp.verifiers.models import VerifierKind
from webapp.verifiers.registry import RegistryError, register


class Command(BaseCommand):
    help = "Register a verifier, with what PATH/verifier.json says of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("path", help="model folder or id; its name at the endpoint")
        parser.add_argument("--kind", choices=VerifierKind.values, default=VerifierKind.JUDGE)
        parser.add_argument("--endpoint", default="", help="an OpenAI-compatible server: .../v1")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            verifier = register(
                name=options["name"],
                path=options["path"],
                endpoint=options["endpoint"],
                kind=options["kind"],
                owner=None,
            )
        except RegistryError as error:
            raise CommandError(f"{error.field}: {error}") from error
        quality = verifier.heldout
        auc = f", held-out AUC {quality['auc']:.3f}" if quality.get("auc") is not None else ""
        self.stdout.write(f"verifier {verifier.name}: registered{auc}")
