"""An image that is being taken out of an engine when its command is terminated leaves nothing on the engine or the disk."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from sandbox.labels import LABEL, abandoned
from tests.sandbox.scripted_engine import ScriptedEngine

ROOT = Path(__file__).parents[2]


def test_a_terminated_unpacking_removes_its_container_and_its_half_folder(tmp_path: Path) -> None:
    export = ("GET", "/containers/c0/export")
    engine = ScriptedEngine(
        {
            ("POST", "/containers/create"): (201, [{"Id": "c0", "Warnings": []}]),
            ("GET", "/containers/c0/json"): (200, [{"Id": "c0"}]),
            export: (200, []),
            ("DELETE", "/containers/c0"): (204, []),
        },
        endless=[export],
    )
    argv = ["-m", "sandbox.unpack", "--engine", engine.url, "--to", str(tmp_path), "image:1"]
    try:
        with subprocess.Popen([sys.executable, *argv], cwd=ROOT) as process:
            deadline = time.monotonic() + 30
            while "export" not in str(engine.requests) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert [path.name[:9] for path in tmp_path.iterdir()] == [".partial-"]
            process.terminate()
            assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        engine.close()
    assert list(tmp_path.iterdir()) == []
    assert engine.requests[-1][0] == "DELETE"
    (created,) = (json.loads(body) for method, _, body in engine.requests if method == "POST")
    assert LABEL in created["Labels"], "a reaper finds it, of one that was killed"
    assert abandoned(created["Labels"])
