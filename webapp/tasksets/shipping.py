"""A taskset from outside, for workers on other machines: its tasks in the object store, named by their digest.

Web server and workers share no disk, and `Taskset.source` is a folder of the machine that loaded it. A worker that
has no such folder makes one from the object store. Bundled tasksets come with the code and are not shipped.
"""

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

import tomli_w
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from sandbox import task as tasks
from webapp.tasksets.models import Taskset

MANIFEST = "taskset.toml"


def is_bundled(source: str) -> bool:
    return not Path(source).is_absolute() and (tasks.BUNDLED / source).is_dir()


def ship(taskset: tasks.Taskset) -> str:
    """Store it, unless it is there. Returns its name in the object store."""
    data = taskset.model_dump_json(exclude_defaults=True).encode()
    name = f"tasksets/{hashlib.sha256(data).hexdigest()}.json"
    return name if default_storage.exists(name) else default_storage.save(name, ContentFile(data))


def source_here(source: str) -> str:
    """`source`, or where it has none the folder on this machine that holds the same tasks.

    What is not there either comes back as it is: who opens it says what is missing.
    """
    if is_bundled(source) or os.access(source, os.R_OK | os.X_OK):
        return source
    taskset = Taskset.objects.filter(source=source).exclude(archive="").first()
    if taskset is None or not default_storage.exists(taskset.archive):
        return source
    return str(_folder(taskset.archive))


def _folder(archive: str) -> Path:
    """Unpacked once; whole or not there, also when two workers of a machine do it at once."""
    folder: Path = settings.TASKSETS_DIR / Path(archive).stem
    if folder.is_dir():
        return folder
    with default_storage.open(archive) as file:
        taskset = tasks.Taskset.model_validate_json(file.read())
    settings.TASKSETS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = Path(mkdtemp(dir=settings.TASKSETS_DIR))
    header = {"name": taskset.name, "description": taskset.description}
    (draft / MANIFEST).write_text(tomli_w.dumps(header), encoding="utf-8")
    lines = [task.model_dump_json(exclude_defaults=True) + "\n" for task in taskset.tasks]
    (draft / tasks.TASKS_FILE).write_text("".join(lines), encoding="utf-8")
    try:
        draft.rename(folder)
    except OSError:
        # Another worker was quicker; its folder holds the same.
        shutil.rmtree(draft)
        if not folder.is_dir():
            raise
    return folder
