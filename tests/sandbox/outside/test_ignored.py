"""What an image's repository ignores (a `.venv`) is not taken for the patch's, and no patch carries it away."""

from sandbox.base import SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.environment import grade
from sandbox.limits import Limits
from sandbox.rows.patches import file_patch
from tests.sandbox.outside.conftest import LoadTaskset


def test_a_patched_virtual_environment_is_put_back_and_the_rest_of_it_stays(
    taskset: LoadTaskset, unpacked: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    task = next(task for task in taskset("r2e").tasks if task.repo_name == "ledger")
    hook = file_patch(".venv/lib/hook.pth", None, "import os; os._exit(0)\n")
    patch = (task.gold_patch + hook).encode()
    graded = grade(task, patch, unpacked, labels=labels, limits=limits)
    assert (graded.reward, graded.flags) == (1.0, {"startup_hook"}), graded
