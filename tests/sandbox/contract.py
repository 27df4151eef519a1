"""What the contract's tests share: a shell, a sandbox for a while, the known exceptions, and the list in the documentation.

Each `test_contract_*.py` holds promises of one subject, and each promise is tested on every backend by the fixtures of
conftest.py. `python -m tests.sandbox.contract` writes the list of them to docs/contract.md.
"""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox.base import Backend, ExecResult, Sandbox, SandboxSpec

DOCUMENT = Path(__file__).parents[2] / "docs" / "contract.md"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("kubernetes", "test_the_number_of_files_is_limited"): (
        "A pod cannot ask for it: files of its memory-backed volume are held by the pod's memory limit alone."
    ),
}
"""(backend, name of the test) -> why this backend does not keep that promise. Five at most in all."""

HOG = "python3 -c 'l = []\nwhile True: l.append(bytearray(1 << 20))'"


def sh(sandbox: Sandbox, script: str, timeout_s: float = 20) -> ExecResult:
    """A script run by bash."""
    return sandbox.exec(["bash", "-c", script], timeout_s=timeout_s)


@contextmanager
def opened(backend: Backend, spec: SandboxSpec, **changes: Any) -> Iterator[Sandbox]:
    """A sandbox of `spec` with some of its fields changed, closed afterwards."""
    sandbox = backend.create(replace(spec, **changes))
    try:
        yield sandbox
    finally:
        sandbox.close()


def promises() -> list[tuple[str, list[str]]]:
    """(subject, names of the tests) for each file of the contract."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_contract_*.py")):
        module = ast.parse(path.read_text())
        subject = (ast.get_docstring(module) or "").removeprefix("The contract: ").rstrip(".")
        names = [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
        found.append((subject, [name for name in names if name.startswith("test_")]))
    return found


def document() -> str:
    """docs/contract.md as it should be."""
    count = sum(len(names) for _, names in promises())
    parts = [
        "# The contract of a sandbox",
        "<!-- Written by python -m tests.sandbox.contract from the names of the tests. -->",
        f"{count} promises that every backend keeps, each a test of that name in `tests/sandbox/test_contract_*.py`.",
    ]
    for subject, names in promises():
        parts.append(f"## {subject[0].upper()}{subject[1:]}")
        parts.append("\n".join(f"- {_sentence(name)}" for name in names))
    parts.append("## Known exceptions")
    rows = [f"- {backend}: {_sentence(name)} {why}" for (backend, name), why in EXCEPTIONS.items()]
    parts.append("\n".join(rows) or "None.")
    return "\n\n".join(parts) + "\n"


def _sentence(name: str) -> str:
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words[0].upper()}{words[1:]}."


if __name__ == "__main__":
    DOCUMENT.write_text(document())
