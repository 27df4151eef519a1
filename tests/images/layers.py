"""Many images that each are another with a few layers more, brought to where that one is in one archive.

Committing a container for each would have an engine compare its whole root with the image's every time.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Protocol, cast

import docker

from tests.images.archive import add, add_config, add_manifest


class Images(Protocol):
    """Where images are: a Docker engine, the container runtime of a node."""

    def save(self, name: str, archive: BinaryIO) -> None:
        """Write one as an archive."""

    def load(self, archive: BinaryIO) -> None:
        """Take in those of an archive."""


class DockerImages:
    """Those of the engine at `url`."""

    def __init__(self, url: str) -> None:
        self._client = docker.DockerClient(base_url=url, timeout=600)

    def save(self, name: str, archive: BinaryIO) -> None:
        for chunk in self._client.images.get(name).save():
            archive.write(chunk)

    def load(self, archive: BinaryIO) -> None:
        self._client.images.load(archive)


class Base:
    """An image that others are made on, as an archive."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        (self._manifest,) = self._json("manifest.json")
        self._config = self._json(self._manifest["Config"])

    def paths(self) -> Iterator[str]:
        """Of its files, in every layer."""
        for layer in self._manifest["Layers"]:
            with tarfile.open(fileobj=self._file(layer)) as opened:
                yield from opened.getnames()

    def write(self, target: tarfile.TarFile, stacks: Mapping[str, Sequence[bytes]]) -> None:
        """The archive of images by name: this one, and over it the tar files of each one's stack."""
        for path in self._manifest["Layers"]:
            target.addfile(self._archive.getmember(path), self._file(path))
        layers = {_digest(layer): layer for stack in stacks.values() for layer in stack}
        for digest, layer in layers.items():
            add(target, f"{digest}.tar", io.BytesIO(layer), len(layer))
        add_manifest(target, [self._add(target, *image) for image in stacks.items()])

    def _add(self, target: tarfile.TarFile, name: str, stack: Sequence[bytes]) -> dict[str, Any]:
        digests = [_digest(layer) for layer in stack]
        below = self._config["rootfs"]["diff_ids"]
        made = [{"created_by": __name__}] * len(stack)
        config = {
            **self._config,
            "rootfs": {"type": "layers", "diff_ids": [*below, *(f"sha256:{d}" for d in digests)]},
            "history": [*self._config.get("history", ()), *made],
        }
        paths = [*self._manifest["Layers"], *(f"{digest}.tar" for digest in digests)]
        return add_config(target, config, name, paths)

    def _file(self, path: str) -> io.BufferedReader:
        return cast(io.BufferedReader, self._archive.extractfile(path))

    def _json(self, path: str) -> Any:
        return json.load(self._file(path))


@contextmanager
def saved(images: Images, name: str) -> Iterator[Base]:
    """An image of `images`, to make others on."""
    with TemporaryFile() as archive:
        images.save(name, archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as opened:
            yield Base(opened)


def load_on(images: Images, base: Base, stacks: Mapping[str, Sequence[bytes]]) -> None:
    """Make an image of each name: `base`, and over it the tar files of its stack, the lowest first."""
    with TemporaryFile() as made:
        with tarfile.open(fileobj=made, mode="w") as target:
            base.write(target, stacks)
        made.seek(0)
        images.load(made)


def _digest(layer: bytes) -> str:
    return hashlib.sha256(layer).hexdigest()
