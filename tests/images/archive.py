"""Image archives as `docker load` and `ctr images import` read them: a manifest, a config, and layers, which are tar files.

Written without an engine. Which images there are is for others to say.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the kernel calls this machine -> what images are labelled with."""


def write_image(
    target: Path, name: str, layers: Sequence[Path], *, entrypoint: Sequence[str] = ()
) -> None:
    """One image of these layers, tar files without compression, the lowest first."""
    digests = [_digest(layer) for layer in layers]
    config = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    with tarfile.open(target, "w") as archive:
        for layer, digest in zip(layers, digests, strict=True):
            with layer.open("rb") as data:
                add(archive, f"{digest}.tar", data, layer.stat().st_size)
        paths = [f"{digest}.tar" for digest in digests]
        add_manifest(archive, [add_config(archive, config, name, paths)])


def _digest(layer: Path) -> str:
    with layer.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def add_config(
    archive: tarfile.TarFile, config: dict[str, Any], name: str, layers: Sequence[str]
) -> dict[str, Any]:
    """Write one image's config; its entry for the manifest. `layers` are their paths in the archive."""
    text = json.dumps(config).encode()
    path = f"{hashlib.sha256(text).hexdigest()}.json"
    add(archive, path, io.BytesIO(text), len(text))
    return {"Config": path, "RepoTags": [name], "Layers": list(layers)}


def add_manifest(archive: tarfile.TarFile, images: Sequence[dict[str, Any]]) -> None:
    """Write what `add_config` gave of each image."""
    text = json.dumps(images).encode()
    add(archive, "manifest.json", io.BytesIO(text), len(text))


def add(archive: tarfile.TarFile, path: str, data: BinaryIO, size: int) -> None:
    """Write a file of `size` bytes."""
    member = tarfile.TarInfo(path)
    member.size = size
    archive.addfile(member, data)
