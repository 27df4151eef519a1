"""`python -m sandbox.grading.graders.swebench_report`: `swebench`'s report on one prediction, in a process that can be ended.

Its parsers run over what code under test has printed: on some logs they raise, on some they take hours and hold the
interpreter meanwhile. `ask` runs them here and waits for so long. Standard input and output are one JSON object each.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxGone

TIMEOUT_S = 60.0
"""Loading `swebench` takes two seconds of it, and 4 MiB of an honest log less."""
_ROOT = Path(__file__).parents[3]


class UnreadableLog(Exception):
    """A log of which `swebench` makes no report."""


def ask(
    spec: Mapping[str, Any], prediction: Mapping[str, str], log: str, *, timeout_s: float
) -> dict[str, Any]:
    """The report. Raises UnreadableLog, SandboxGone when the process ended without an answer."""
    order = json.dumps({"spec": spec, "prediction": prediction, "log": log})
    try:
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name],
            input=order.encode(),
            capture_output=True,
            cwd=_ROOT,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreadableLog(f"its parser did not end within {timeout_s:g} s") from error
    if done.returncode:
        raise SandboxGone(f"swebench's report: exit code {done.returncode}: {done.stderr[-300:]!r}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise UnreadableLog(answer["error"])
    return answer


def _answer(spec: dict[str, Any], prediction: dict[str, str], log: str) -> dict[str, Any]:
    from swebench.harness.grading import get_eval_report
    from swebench.types import TestSpec

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_output.txt"
        path.write_text(log)
        try:
            report: dict[str, Any] = get_eval_report(
                test_spec=TestSpec(**spec),
                prediction=prediction,
                test_log_path=str(path),
                include_tests_status=True,
            )
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"[:300]}
    return dict(report[prediction["instance_id"]])


def main() -> None:
    # What swebench prints is not the answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    json.dump(_answer(**json.load(sys.stdin)), answers)


if __name__ == "__main__":
    main()
