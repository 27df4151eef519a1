"""Our tools beside R2E-Gym's, case by case in real sandboxes; docs/tools.md is these cases and nothing else.

`python -m tests.sandbox.test_tools_parity` writes the page anew.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.actions import EDITOR_COMMANDS, TOOLS
from sandbox.base import SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.environment import Environment
from sandbox.limits import Limits
from sandbox.task import Task
from tests.sandbox.parity_cases import CASES, REPOSITORY, Case

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
HEAD = """# Tools

The agent has R2E-Gym's four tools, with the same names, parameters and call format:

    <function=NAME><parameter=KEY>VALUE</parameter></function>

One newline after the opening and one before the closing tag of a parameter are dropped, and indentation is kept. The table
is what `tests/sandbox/test_tools_parity.py` plays in real sandboxes, parameter by parameter. Where the last column is empty, we
do as R2E-Gym does; elsewhere it says what we do instead.

| tool | parameter | situation | R2E-Gym | ours, where it differs |
|---|---|---|---|---|
"""
FOOT = """
Bytes that are not UTF-8 survive edits. The patch is made from the whole working tree, by a git that the agent never touched;
R2E-Gym submits the files that its editor changed.
"""


def page() -> str:
    rows = [
        f"| `{case.tool}` | {case.parameter} | {case.situation} | {case.r2e_gym} | {case.difference} |"
        for case in CASES
    ]
    return HEAD + "\n".join(rows) + "\n" + FOOT


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.tool}: {case.situation}")
def test_a_tool_does_what_the_table_says(
    case: Case, bubblewrap: BubblewrapBackend, task: Task, labels: SandboxLabels, limits: Limits
) -> None:
    here = task.model_copy(update={"files": REPOSITORY | case.files})
    quick = replace(limits, command_timeout_s=2)
    environment = Environment(here, bubblewrap, labels=labels, limits=quick)
    environment.reset()
    try:
        seen = [environment.step(text).observation for text in case.calls][-1]
    finally:
        environment.close()
    for text in case.expect:
        assert text in seen
    for text in case.absent:
        assert text not in seen


def test_every_tool_and_every_parameter_has_a_case() -> None:
    written = "".join(text for case in CASES for text in case.calls)
    for name, tool in TOOLS.items():
        assert f"<function={name}>" in written
        for parameter in tool.required + tool.optional:
            assert any(f"<parameter={parameter}>" in text for c in CASES for text in c.calls)
    for command in EDITOR_COMMANDS:
        assert f"<parameter=command>{command}<" in written


def test_the_page_is_this_table() -> None:
    assert PAGE.read_text() == page(), "python -m tests.sandbox.test_tools_parity writes it anew"


if __name__ == "__main__":
    PAGE.write_text(page())
