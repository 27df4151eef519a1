"""What this machine's administrator says of the backends, whatever run uses them: where Kubernetes makes its pods, where
images are unpacked.

SANDBOX_OPTIONS names a TOML file with a table a backend, whose keys are that backend's keyword options:

    [kubernetes]
    namespace = "sandboxes"
    cpu_request = 0.25

Without it every backend has its defaults. What one sandbox may use is the run's own configuration, not this.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.base import BACKENDS, Backend, load_backend

VARIABLE = "SANDBOX_OPTIONS"


def configured_backend(name: str, **options: Any) -> Backend:
    """The backend called `name` as this machine has it; `options` go before. Raises ValueError."""
    said = options_of(os.environ).get(name, {})
    try:
        return load_backend(name, **{**said, **options})
    except TypeError as error:
        raise ValueError(f"{VARIABLE}={os.environ.get(VARIABLE)}: [{name}]: {error}") from error


def options_of(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Backend -> its options. Raises ValueError naming the file and what is wrong with it."""
    path = environ.get(VARIABLE, "")
    if not path:
        return {}
    try:
        tables = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{VARIABLE}={path}: not readable as TOML: {error}") from error
    if unknown := tables.keys() - BACKENDS.keys():
        raise ValueError(f"{VARIABLE}={path}: {min(unknown)!r}: name a table {', '.join(BACKENDS)}")
    return tables
