"""Many images that each are another with one layer more, brought into a Docker engine in one archive.

Committing a container for each would have the engine compare its whole root with the image's every time.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import Any, cast

import docker


def load_on(client: docker.DockerClient, base: str, layers: Mapping[str, bytes]) -> None:
    """Make an image of each name: `base`, and over it the tar archive that `layers` gives."""
    with TemporaryFile() as saved, TemporaryFile() as made:
        for chunk in client.images.get(base).save():
            saved.write(chunk)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as source, tarfile.open(fileobj=made, mode="w") as target:
            _write(source, target, layers)
        made.seek(0)
        client.images.load(made)


def _write(source: tarfile.TarFile, target: tarfile.TarFile, layers: Mapping[str, bytes]) -> None:
    """The archive that `docker load` reads, of the one that `docker save` has written of the base."""
    (manifest,) = _json(source, "manifest.json")
    config = _json(source, manifest["Config"])
    for path in manifest["Layers"]:
        target.addfile(source.getmember(path), source.extractfile(path))
    manifests = []
    for name, layer in layers.items():
        digest = hashlib.sha256(layer).hexdigest()
        below = config["rootfs"]["diff_ids"]
        own = {
            **config,
            "rootfs": {"type": "layers", "diff_ids": [*below, f"sha256:{digest}"]},
            "history": [*config.get("history", ()), {"created_by": __name__}],
        }
        text = json.dumps(own).encode()
        path = f"{hashlib.sha256(text).hexdigest()}.json"
        _add(target, path, text)
        _add(target, f"{digest}.tar", layer)
        stack = [*manifest["Layers"], f"{digest}.tar"]
        manifests.append({"Config": path, "RepoTags": [name], "Layers": stack})
    _add(target, "manifest.json", json.dumps(manifests).encode())


def _json(archive: tarfile.TarFile, path: str) -> Any:
    return json.load(cast(io.BufferedReader, archive.extractfile(path)))


def _add(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    member = tarfile.TarInfo(path)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
