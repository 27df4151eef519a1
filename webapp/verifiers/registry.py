"""Entering verifiers: from the page, the API, `manage.py register_verifier`, and files of scores that a replay finds."""

import json
import re
from pathlib import Path
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.evaluations.methods import BASELINES
from trainer.evaluations.scores import VERIFIER_FILE
from webapp.verifiers.models import NAME, Verifier, VerifierKind

MAX_BYTES = 10 * 2**20
DEFAULT_MAX_TOKENS = 65536


class Quality(BaseModel):
    """On labelled rollouts."""

    num_examples: int
    num_solved: int
    auc: float | None
    brier: float
    calibration_error: float


class Measured(BaseModel):
    """What verifier.json says."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str
    num_train: int
    heldout_tasks: list[str]
    max_tokens: int = 4096
    """Of one example while it was trained; early ones did not note what the command's default was."""
    before: Quality
    after: Quality


class RegistryError(Exception):
    """It cannot be entered; `field` and the message say why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def may_remove(user: User | AnonymousUser, verifier: Verifier) -> bool:
    return user.is_authenticated and (user.is_staff or verifier.owner_id == user.pk)


def register(
    *,
    name: str,
    path: str,
    endpoint: str = "",
    kind: str = VerifierKind.JUDGE,
    owner: User | None,
    measured: Any = None,
) -> Verifier:
    """Enter a verifier. `measured` is its verifier.json; without it the file beside the model is read, if it is here.

    A name that is known by its scores alone gets its model by this, and its owner only by staff: whoever owns a verifier may
    remove everybody's scores of it. Raises RegistryError.
    """
    _refuse(name, path, endpoint, kind)
    found = _checked(measured if measured is not None else _read(path))
    known = Verifier.objects.filter(name=name).first()
    verifier = known or Verifier(name=name, kind=kind)
    if verifier.can_be_asked or verifier.kind != kind:
        raise RegistryError("name", f"{name!r} is taken; choose another name")
    if known is None or (owner and owner.is_staff):
        verifier.owner = owner
    verifier.path, verifier.endpoint = path, endpoint
    verifier.measured = found.model_dump() if found else {}
    verifier.max_tokens = found.max_tokens if found else DEFAULT_MAX_TOKENS
    verifier.save()
    return verifier


def _refuse(name: str, path: str, endpoint: str, kind: str) -> None:
    """Raises RegistryError for what cannot be. A name is a file's, and no way out of its folder."""
    if not re.fullmatch(NAME.regex, name):
        raise RegistryError("name", f"{name!r}: {NAME.message}")
    _refuse_baseline(name)
    if not path:
        raise RegistryError("path", "Name a model folder or id.")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise RegistryError("endpoint", f"{endpoint!r}: needs a URL such as http://host:8000/v1")
    if kind not in VerifierKind.values:
        raise RegistryError("kind", f"{kind!r}: one of {', '.join(VerifierKind.values)}")


def _refuse_baseline(name: str) -> None:
    if name in BASELINES:
        message = f"{name!r} is a choice without a verifier, to which verifiers are compared"
        raise RegistryError("name", f"{message}; choose another name")


def known_by_results(name: str, kind: VerifierKind) -> Verifier:
    """The verifier of that name, entered without a model when there is none. Raises RegistryError."""
    _refuse_baseline(name)
    verifier, _ = Verifier.objects.get_or_create(name=name, defaults={"kind": kind})
    if verifier.kind != kind:
        raise RegistryError("name", f"{name!r} is a verifier that {verifier.get_kind_display()}")
    return verifier


def _read(path: str) -> Any:
    file = Path(path) / VERIFIER_FILE
    try:
        if file.stat().st_size > MAX_BYTES:
            raise RegistryError("path", f"{file}: is larger than {MAX_BYTES} bytes")
        return json.loads(file.read_bytes())
    except OSError:  # none there, or none that this process may read
        return None
    except ValueError as error:
        raise RegistryError("path", f"{file}: is no JSON: {error}") from error


def _checked(measured: Any) -> Measured | None:
    if measured is None:
        return None
    try:
        return Measured.model_validate(measured)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RegistryError("path", f"{VERIFIER_FILE}: {place}: {first['msg']}") from error
