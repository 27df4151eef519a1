"""Every setting of the web app and its workers. Nothing else reads the environment.

With nothing set, one machine runs it all from `var/`: SQLite, a broker made of files, an in-process
channel layer.
DATABASE_URL, REDIS_URL and STORAGE_URL each replace one of these. README.md has the table.
"""

import os
import secrets
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured


def env_str(name: str, default: str = "") -> str:
    """Text; as every setting `NAME_FILE` may name a file that holds it."""
    file = os.environ.get(f"{name}_FILE")
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE={file}: {error.strerror}; name a readable file"
            ) from error
    return os.environ.get(name, default)


def env_bool(name: str, default: bool = False) -> bool:
    value = env_str(name).lower()
    if value not in ("", "1", "true", "yes", "0", "false", "no"):
        raise ImproperlyConfigured(f"{name}={value}: is not a truth value; use true or false")
    return value in ("1", "true", "yes") if value else default


def env_int(name: str, default: int) -> int:
    value = env_str(name)
    try:
        return int(value) if value else default
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={value}: is not a whole number") from error


BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env_str("VAR_DIR", str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)


def _secret_key() -> str:
    """SECRET_KEY, or one that is made at the first start and kept in `var/secret_key`."""
    path = VAR_DIR / "secret_key"
    given = env_str("SECRET_KEY")
    if given:
        return given
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        # A link fails where a rename would replace the key that another process has just made.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


def _database(url: str) -> dict[str, Any]:
    """Settings for `postgresql://user:password@host:port/name?option=value`; empty: SQLite."""
    if not url:
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas}
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": VAR_DIR / "studio.sqlite3",
            "OPTIONS": options,
        }
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ImproperlyConfigured(
            f"DATABASE_URL: {parts.scheme}:// is not supported; use postgresql://"
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def _file_storage(url: str) -> dict[str, Any]:
    """Where large files go: `s3://bucket/prefix`, `gs://bucket/prefix`; empty: `var/media`."""
    if not url:
        return {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    parts = urlsplit(url)
    backends = {
        "s3": "storages.backends.s3.S3Storage",
        "gs": "storages.backends.gcloud.GoogleCloudStorage",
    }
    if parts.scheme not in backends:
        raise ImproperlyConfigured(
            f"STORAGE_URL: {parts.scheme}:// is not supported; use s3:// or gs://"
        )
    options = {
        "bucket_name": parts.netloc,
        "location": parts.path.strip("/"),
        "file_overwrite": True,
    }
    return {"BACKEND": backends[parts.scheme], "OPTIONS": options}


SECRET_KEY = _secret_key()
DEBUG = env_bool("DEBUG")
PUBLIC_URL = env_str("PUBLIC_URL").rstrip("/")
"""What people type to get here. Its host is allowed; https turns secure cookies on."""
_public = urlsplit(PUBLIC_URL)
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"] + (
    [_public.hostname] if _public.hostname else []
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
SECURE = _public.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_bool("BEHIND_PROXY") else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_AGE = 14 * 24 * 3600

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "django_htmx",
    "ninja",
    "webapp.api",
    "webapp.assessments",
    "webapp.evaluations",
    "webapp.rollouts",
    "webapp.runs",
    "webapp.sandboxes",
    "webapp.tasksets",
    "webapp.verifiers",
    "webapp.webhooks",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "webapp.nul_refused.NulRefusedMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "webapp.sign_in_required.SignInRequiredMiddleware",
]
ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "font-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

DATABASES = {"default": _database(env_str("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "sesame.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "/runs/"
LOGOUT_REDIRECT_URL = "sign-in"
SESAME_MAX_AGE = env_int("SIGN_IN_LINK_SECONDS", 1800)
SESAME_ONE_TIME = True
SESAME_TOKENS = ["sesame.tokens_v2"]
SESAME_TOKEN_NAME = "token"

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Files are served from where set-up put them: nothing to collect before a start.
WHITENOISE_USE_FINDERS = True
MEDIA_ROOT = VAR_DIR / "media"
FILE_UPLOAD_PERMISSIONS = 0o644
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o755
STORAGES = {
    "default": _file_storage(env_str("STORAGE_URL")),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

REDIS_URL = env_str("REDIS_URL")
CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

BROKER_DIR = VAR_DIR / "broker"
if not REDIS_URL:
    (BROKER_DIR / "messages").mkdir(parents=True, exist_ok=True)
CELERY_BROKER_URL = REDIS_URL or "filesystem://localhost//"
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {}
    if REDIS_URL
    else {
        "data_folder_in": str(BROKER_DIR / "messages"),
        "data_folder_out": str(BROKER_DIR / "messages"),
        "control_folder": str(BROKER_DIR / "control"),
        "processed_folder": str(BROKER_DIR / "taken"),
        "store_processed": False,
        "polling_interval": 0.05,
    }
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "runs.train_run": {"queue": "train"},
    "evaluations.run_shard": {"queue": "evaluate"},
    "assessments.assess": {"queue": "evaluate"},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# a supervisor hears of its worker's end by an event in its own process, and mostly sleeps
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    name: {"task": f"{name}.reap", "schedule": 5.0, "options": {"expires": 5}}
    for name in ("assessments", "evaluations", "runs", "sandboxes", "tasksets", "webhooks")
}

RUNS_DIR = Path(env_str("RUNS_DIR", str(VAR_DIR / "runs"))).resolve()
"""Run folders, on the workers' disk only; a worker makes it with mode 0700."""
VALIDATIONS_DIR = VAR_DIR / "validations"
"""What validations found out, a folder a taskset, on the workers' disk: the next one takes it over."""
EVALUATIONS_DIR = Path(env_str("EVALUATIONS_DIR", str(VAR_DIR / "evaluations"))).resolve()
"""Folders of evaluations, on the workers' disk only."""
TASKSETS_DIR = VAR_DIR / "tasksets"
"""Tasksets that were loaded on another machine, as a worker got them from the object store."""
TRAINER_COMMAND = shlex.split(env_str("TRAINER_COMMAND")) or [sys.executable, "-m", "trainer"]
"""Started as `COMMAND RUN_DIR --run-id UUID`, in the checkout."""
TRAINER_NODES = env_int("TRAINER_NODES", 0)
"""Nodes of a cluster that TRAINER_COMMAND has for one run; 0: it trains on the worker's own machine."""
CLOSED_TO_CHILDREN = ["SECRET_KEY", "DATABASE_URL", "REDIS_URL", "STORAGE_URL"]
CLOSED_TO_CHILDREN += ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
CLOSED_TO_CHILDREN += ["GOOGLE_APPLICATION_CREDENTIALS"]
CHILD_ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name.removesuffix("_FILE") not in CLOSED_TO_CHILDREN
}
"""What a trainer inherits: nothing that opens the database, the broker or the object store."""
STOP_GRACE_S = env_int("STOP_GRACE_S", 13)
"""Seconds a trainer has to save its checkpoint after a stop, before it is killed."""
WEBHOOK_PRIVATE_ADDRESSES = env_bool("WEBHOOK_PRIVATE_ADDRESSES")
"""Whether webhooks may lead to loopback and private addresses: the workers' own network."""

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en-us"
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env_str("LOG_LEVEL", "INFO")},
    "loggers": {
        "celery": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
    },
}
