"""One process at a time writes a folder: by a lock that the kernel lets go of when its holder ends, however that ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.config import ConfigError


@contextmanager
def held_alone(folder: Path, lock_file: str, does: str) -> Iterator[Path]:
    """The folder, made where it is missing. Raises ConfigError when another process `does` something there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / lock_file).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{folder}: another process {does} here; let it end, or stop it"
            raise ConfigError([("file", message)]) from error
        yield folder
