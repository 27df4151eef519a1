"""What tests of the web app share: people, workers, runs, recorded run folders."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import tomli_w
from django.contrib.auth.models import User

from tests.web.recorded_trainer import train
from trainer.config import CONFIG_FILE, TrainConfig
from trainer.recipes import load_recipe
from webapp.celery import app
from webapp.runs import event_files, lifecycle
from webapp.runs.models import Run, Worker

STAND_IN = [sys.executable, "-m", "tests.web.recorded_trainer", "--pace", "0.01"]


@pytest.fixture(autouse=True)
def own_folders(settings, tmp_path: Path) -> None:
    """No test writes where a studio of this checkout works."""
    settings.RUNS_DIR = tmp_path / "runs"
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.TRAINER_COMMAND = STAND_IN
    app.conf.update(broker_url="memory://", broker_transport_options={})


@pytest.fixture
def config() -> TrainConfig:
    """Two steps of the starter recipe."""
    return load_recipe("starter-cpu", {"num_steps": 2, "hardware": {"min_memory_gib": 0.1}})


@pytest.fixture
def alice(db: None) -> User:
    """Owns the runs."""
    return User.objects.create_user("alice")


@pytest.fixture
def bob(db: None) -> User:
    """Signed in, and no owner of anything."""
    return User.objects.create_user("bob")


@pytest.fixture
def worker(db: None) -> Worker:
    """Online, and able to train the starter."""
    return make_worker("studio@here")


def make_worker(name: str, **fields: object) -> Worker:
    able = {
        "host": name.partition("@")[2],
        "queues": ["train"],
        "memory_mib": 16384,
        "sandbox_backends": ["bubblewrap"],
    }
    return Worker.objects.create(name=name, **able | fields)


@pytest.fixture
def run(config: TrainConfig, alice: User) -> Run:
    """Queued, of alice."""
    return lifecycle.launch(config=config, name="first", owner=alice)


@pytest.fixture
def storage_away(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A stand-in for an object store that answers no write until the event is cleared."""
    store, away = event_files._store_file, threading.Event()
    away.set()

    def stand_in(source: Path, name: str, copy_files: bool) -> str:
        if away.is_set():
            raise RuntimeError("503 Slow Down")  # no OSError, as that of most clients is none
        return store(source, name, copy_files)

    monkeypatch.setattr(event_files, "_store_file", stand_in)
    return away


@pytest.fixture
def record(tmp_path: Path, config: TrainConfig) -> Callable[..., Path]:
    """Make a run folder with all events of a run that trained to its end."""

    def make(run_id: UUID | None = None) -> Path:
        run_id = run_id or uuid4()
        run_dir = tmp_path / "recorded" / str(run_id)
        run_dir.mkdir(parents=True)
        data = config.model_dump(mode="json")
        (run_dir / CONFIG_FILE).write_text(tomli_w.dumps(data))
        train(run_dir, run_id, config, pace=0)
        return run_dir

    return make
