"""Settings from the environment: what each variable replaces, and errors that name it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from webapp import settings

SHOW = """
import json, sys
from webapp import settings
print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}, default=str))
"""


def load(var_dir: Path, names: str, **environment: str) -> dict[str, Any]:
    """Settings as a fresh process with this environment has them."""
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, *names.split()],
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(var_dir)} | environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    if shown.returncode:
        raise ValueError(shown.stderr.splitlines()[-1])
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_with_nothing_set_one_folder_holds_everything(tmp_path: Path) -> None:
    names = "DATABASES CELERY_BROKER_URL CHANNEL_LAYERS RUNS_DIR MEDIA_ROOT SECURE"
    found = load(tmp_path, names)
    assert found["DATABASES"]["default"]["NAME"] == str(tmp_path / "studio.sqlite3")
    assert found["CELERY_BROKER_URL"].startswith("filesystem:")
    assert "InMemory" in found["CHANNEL_LAYERS"]["default"]["BACKEND"]
    assert found["RUNS_DIR"] == str(tmp_path / "runs")
    assert found["SECURE"] is False


def test_a_secret_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first, second = (load(tmp_path, "SECRET_KEY")["SECRET_KEY"] for _ in range(2))
    assert first == second
    assert len(first) > 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_urls_replace_database_broker_and_storage(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        "DATABASES CELERY_BROKER_URL CHANNEL_LAYERS STORAGES",
        DATABASE_URL="postgresql://us%40er:pass@db:5433/studio?sslmode=require",
        REDIS_URL="redis://cache:6379/0",
        STORAGE_URL="s3://bucket/a/prefix",
    )
    database = found["DATABASES"]["default"]
    assert (database["USER"], database["HOST"], database["PORT"]) == ("us@er", "db", "5433")
    assert database["OPTIONS"] == {"sslmode": "require"}
    assert found["CELERY_BROKER_URL"] == "redis://cache:6379/0"
    assert found["STORAGES"]["default"]["OPTIONS"]["bucket_name"] == "bucket"


def test_https_turns_secure_cookies_on(tmp_path: Path) -> None:
    names = "SESSION_COOKIE_SECURE ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS"
    found = load(tmp_path, names, PUBLIC_URL="https://studio.example")
    assert found["SESSION_COOKIE_SECURE"] is True
    assert "studio.example" in found["ALLOWED_HOSTS"]
    assert "*" not in found["ALLOWED_HOSTS"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://studio.example"]


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    found = load(tmp_path, "SECRET_KEY", SECRET_KEY_FILE=str(tmp_path / "key"))
    assert found["SECRET_KEY"] == "from a file"


def test_a_trainer_inherits_no_secret(tmp_path: Path) -> None:
    secrets = {"SECRET_KEY": "s", "REDIS_URL_FILE": "/dev/null", "AWS_SECRET_ACCESS_KEY": "s"}
    found = load(tmp_path, "CHILD_ENVIRONMENT", HOME="/home/x", **secrets)
    assert found["CHILD_ENVIRONMENT"].keys().isdisjoint(secrets)
    assert found["CHILD_ENVIRONMENT"]["HOME"] == "/home/x"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DEBUG", "maybe", "DEBUG=maybe: is not a truth value"),
        ("STOP_GRACE_S", "soon", "STOP_GRACE_S=soon: is not a whole number"),
        ("DATABASE_URL", "mysql://db/x", "mysql:// is not supported; use postgresql://"),
        ("STORAGE_URL", "ftp://x", "ftp:// is not supported; use s3:// or gs://"),
        ("SECRET_KEY_FILE", "/nowhere", "SECRET_KEY_FILE=/nowhere: No such file"),
    ],
)
def test_a_wrong_value_fails_with_its_name(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, "DEBUG", **{name: value})
