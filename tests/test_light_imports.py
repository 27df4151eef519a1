"""The modules that web and trainer share load nothing heavy."""

import subprocess
import sys

import pytest

LIGHT = (
    "trainer.metrics.alarms",
    "trainer.evaluations.comparison",
    "trainer.config",
    "trainer.config_faults",
    "trainer.config_rules",
    "trainer.evaluations.estimates",
    "trainer.evaluations.config",
    "trainer.events",
    "trainer.evaluations.methods",
    "trainer.recipes",
    "trainer.evaluations.scores",
    "trainer.evaluations.selection",
    "trainer.stop",
    "trainer.evaluations.summary",
    "trainer.evaluations.counts",
    "sandbox.available",
    "sandbox.grading.counts",
    "sandbox.event_log",
    "sandbox.events",
    "sandbox.task",
    "sandbox.trajectory",
)
HEAVY = ("torch", "vllm", "transformers", "docker", "kubernetes", "django", "numpy", "datasets")


@pytest.mark.parametrize("module", LIGHT)
def test_light_module_loads_nothing_heavy(module: str) -> None:
    assert heavy_after_import(module) == []


def test_a_heavy_module_would_be_seen() -> None:
    assert heavy_after_import("django") == ["django"]


def heavy_after_import(module: str) -> list[str]:
    """Import `module` in an interpreter of its own and name the heavy modules that are loaded."""
    program = f"import sys, {module}; print(*set(sys.modules) & set({HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()
