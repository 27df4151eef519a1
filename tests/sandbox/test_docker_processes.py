"""The kernel's count of a container's processes: none where the container is not to be seen, exact where it is."""

import os

import pytest

from sandbox.base import Backend, SandboxSpec
from sandbox.docker.options import OWN_PIDS
from sandbox.docker.processes import count, count_file


def test_a_process_that_is_not_the_containers_has_no_count() -> None:
    assert count_file("0123456789abcdef", os.getpid()) is None
    assert count_file("0123456789abcdef", 0) is None
    assert count(None) is None


@pytest.mark.docker
def test_what_a_command_leaves_is_counted_and_then_killed(
    docker_backend: Backend, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = docker_backend.create(spec)
    counted: list[int | None] = []

    def count_and_tell(file: object) -> int | None:
        counted.append(count(file))  # type: ignore[arg-type]
        return counted[-1]

    monkeypatch.setattr("sandbox.docker.processes.count", count_and_tell)
    forking = "import os\nwhile True:\n  if os.fork(): os._exit(0)"
    left = f'(setsid python3 -c "{forking}" >/dev/null 2>&1 &); sleep 0.5'
    for script in ("true", left, "true"):
        assert sandbox.exec(["bash", "-c", script], timeout_s=20).ok
    sandbox.close()
    assert counted[0] == counted[2] == OWN_PIDS
    assert (counted[1] or 0) > OWN_PIDS
