"""What one rollout may use, and the sandbox specification of a task under those limits."""

from dataclasses import dataclass

from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.task import Task


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one sandbox and of what is done in it."""

    memory_mib: int = 512
    """Memory of all processes together."""
    pids: int = 128
    cpus: float = 1.0
    disk_mib: int = 256
    """Repository, /tmp and home together."""
    command_timeout_s: float = 90.0
    """Of one tool call. R2E-Gym's default."""
    grading_timeout_s: float = 300.0
    """Of the whole test run. R2E-Gym's default."""
    max_observation_chars: int = 10_000


OF_IMAGES = Limits(memory_mib=4096, pids=1024, disk_mib=4096, grading_timeout_s=1200)
"""For a repository that is the image's own, with its `.venv`: about as the published recipe has it."""


def usual_limits(task: Task) -> Limits:
    """Where nobody says otherwise."""
    return Limits() if task.files else OF_IMAGES


def spec_of(task: Task, *, labels: SandboxLabels, limits: Limits) -> SandboxSpec:
    """The sandbox in which `task` is worked on, and another like it in which it is graded."""
    return SandboxSpec(
        docker_image=task.docker_image,
        labels=labels,
        files={name: text.encode() for name, text in task.files.items()},
        hidden=tuple(task.hidden_files),
        setup_patch=task.setup_patch.encode(),
        base_commit=task.base_commit,
        memory_mib=limits.memory_mib,
        pids=limits.pids,
        cpus=limits.cpus,
        disk_mib=limits.disk_mib,
    )
