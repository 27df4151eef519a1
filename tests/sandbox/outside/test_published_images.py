"""An image laid out as R2E-Gym's are, with nothing of ours in it: the agent's tools and the grading work on every backend."""

from pathlib import Path

import pytest

from sandbox.base import Backend, SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.environment import Environment, grade
from sandbox.errors import Outcome, SandboxUnavailable
from sandbox.limits import Limits, spec_of
from sandbox.unpack import folder_of
from tests.sandbox.outside.conftest import LoadTaskset

LOOK = "command -v python; python -c 'import sys; print(sys.prefix)'; ls /opt/tools"
TAMPER = "id -u; for f in /opt/tools/search.py /opt/tools/new; do echo >> $f && echo written; done"


def call(tool: str, **parameters: str) -> str:
    lines = "".join(f"<parameter={name}>{value}</parameter>" for name, value in parameters.items())
    return f"<function={tool}>{lines}</function>"


def test_the_tools_work_and_are_out_of_the_agents_reach(
    published: Backend, taskset: LoadTaskset, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("r2e").tasks[0]
    environment = Environment(task, published, labels=labels, limits=limits)
    environment.reset()
    try:
        shown = {
            name: environment.step(text).observation
            for name, text in {
                "look": call("execute_bash", cmd=LOOK),
                "tamper": call("execute_bash", cmd=TAMPER),
                "search": call("search", search_term="cents", path="."),
                "view": call("file_editor", command="view", path="/testbed/ledger/amounts.py"),
                "create": call(
                    "file_editor", command="create", path="/testbed/new.py", file_text="new = 1"
                ),
            }.items()
        }
        patch = environment.patch()
    finally:
        environment.close()
    for part in ("/testbed/.venv/bin/python\n", "/testbed/.venv\n", "file_editor.py\n"):
        assert part in shown["look"], shown
    assert "1000\n" in shown["tamper"]
    assert "\nwritten" not in shown["tamper"], shown
    assert "amounts.py" in shown["search"], shown
    assert "def " in shown["view"], shown
    assert b"+new = 1" in patch, shown


def test_gold_passes_and_nothing_fails(
    published: Backend, taskset: LoadTaskset, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("r2e").tasks[-1]
    patches = (task.gold_patch.encode(), b"")
    grades = [grade(task, patch, published, labels=labels, limits=limits) for patch in patches]
    assert [(g.reward, g.outcome) for g in grades] == [(1.0, Outcome.TASK), (0.0, Outcome.TASK)]


def test_a_python_that_the_agent_cannot_run_is_named_with_the_remedy(
    taskset: LoadTaskset, tmp_path: Path, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("r2e").tasks[0]
    python = folder_of(task.docker_image, tmp_path) / "testbed" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/root/.local/share/uv/python/bin/python3")
    backend = BubblewrapBackend(state=tmp_path / "state", unpacked=tmp_path)
    try:
        with pytest.raises(SandboxUnavailable, match="leads to /root/.local.*chmod 755 /root"):
            backend.create(spec_of(task, labels=labels, limits=limits))
    finally:
        backend.close()
