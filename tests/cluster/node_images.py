"""Give the test node the images that each pod needs: `python -m tests.cluster.node_images FOLDER CACHE`.

That of a pod's own container, which is one program that waits, and that of the bundled tasks. FOLDER is the node's.
"""

import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from sandbox.images import debian_archive, lay_ours
from sandbox.rootfs import COMPOSED_IMAGE
from tests.cluster.containerd import Containerd
from tests.cluster.processes import PAUSE_IMAGE
from tests.images.archive import write_image

PAUSE = "#include <signal.h>\n#include <unistd.h>\nint main(){signal(SIGCHLD,SIG_IGN);for(;;)pause();}\n"


def write_pause(folder: Path) -> Path:
    """An archive below `folder` of a root with one program: it holds a pod's namespaces."""
    source, program, root = folder / "pause.c", folder / "pause", folder / "pause.tar"
    source.write_text(PAUSE)
    subprocess.run(["gcc", "-static", "-Os", "-o", str(program), str(source)], check=True)
    with tarfile.open(root, "w") as archive:
        archive.add(program, "pause")
    image = folder / "pause-image.tar"
    write_image(image, PAUSE_IMAGE, [root], entrypoint=["/pause"])
    return image


def write_composed(folder: Path, cache: Path) -> Path:
    """An archive below `folder` of the bundled tasks' image: Debian as `cache` keeps it, and a layer of what is ours."""
    ours, layer, image = folder / "ours", folder / "ours.tar", folder / "composed-image.tar"
    ours.mkdir()
    lay_ours(ours)
    with tarfile.open(layer, "w") as archive:
        for path in ours.iterdir():
            archive.add(path, path.name)
    write_image(image, COMPOSED_IMAGE, [debian_archive(cache), layer])
    return image


def main(node: str, cache: str) -> None:
    runtime = Containerd(Path(node))
    with TemporaryDirectory(dir=node) as name:
        folder = Path(name)
        for image in (write_pause(folder), write_composed(folder, Path(cache))):
            runtime.ctr("images", "import", str(image))


if __name__ == "__main__":
    main(*sys.argv[1:])
