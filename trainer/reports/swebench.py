"""SWE-bench's reports, schema version 2, laid out as its own evaluation lays out a run (PyPI `swebench` 5):

    OUT/predictions.jsonl
    OUT/<model>.<run id>.json                                        the run
    OUT/logs/run_evaluation/<run id>/<model>/<instance>/report.json  one instance; patch.diff and test_output.txt beside it

For tasks from SWE-bench the instance's report is made by `swebench` from the log of its own script; for others from the
tests' statuses, whose expected ones stand under FAIL_TO_PASS where the task does not say which failed before. A patch that
did not apply, or left no test output, has no report and is an error, as there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.task import Task
from trainer.evaluations.predictions import Prediction, instance_of, write_predictions
from trainer.evaluations.results import Result

Tests = dict[str, dict[str, list[str]]]
Failure = tuple[str, bool]
"""(reason, whether it is the environment's for certain)."""


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One prediction with what became of it."""

    prediction: Prediction
    report: dict[str, Any] | None
    """None when it could not be graded to the end."""
    failure: Failure | None
    """A fault of the environment that the log shows, of one that is not resolved."""


def write_run(
    out: Path, results: Sequence[Result], tasks: Mapping[str, Task], *, model: str, run_id: str
) -> Path:
    """Write the run that one rollout a task makes; `tasks` are all of the evaluation. Returns the run report's path."""
    graded = []
    for result in results:
        log = _log(result)
        prediction = Prediction(
            instance_id=instance_of(result.task),
            model_name_or_path=model,
            model_patch=result.patch.decode(errors="replace"),
        )
        report = instance_report(tasks[result.task], result, log) if log and result.patch else None
        graded.append(Graded(prediction=prediction, report=report, failure=_failure(report, log)))
        if result.patch:
            _write_instance(out, prediction, report, log, run_id)
    write_predictions(out / "predictions.jsonl", [g.prediction for g in graded])
    path = out / f"{model.replace('/', '__')}.{run_id}.json"
    instance_ids = [instance_of(task) for task in tasks]
    path.write_text(json.dumps(run_report(instance_ids, graded), indent=4) + "\n")
    return path


def instance_report(task: Task, result: Result, log: bytes) -> dict[str, Any]:
    """What a report.json holds below the instance's name."""
    if task.grading == "swebench":
        from sandbox.grading.graders.swebench import report_of

        return report_of(task, result.patch, log)
    return {
        "patch_is_None": False,
        "patch_exists": True,
        "patch_successfully_applied": bool(result.finished.tests),
        "resolved": result.reward == 1,
        "infra_failure": False,
        "tests_status": status_of_tests(task, result.finished.tests),
    }


def status_of_tests(task: Task, tests: Mapping[str, str]) -> Tests:
    """Each expected test under its kind, a success when its status is the expected one."""
    expected = task.expected_output
    kinds = {"FAIL_TO_PASS": task.FAIL_TO_PASS, "PASS_TO_PASS": task.PASS_TO_PASS}
    if not any(kinds.values()):
        kinds["FAIL_TO_PASS"] = list(expected)
    as_expected = {name for name, status in expected.items() if tests.get(name) == status}
    status = {
        kind: {
            "success": [name for name in names if name in as_expected],
            "failure": [name for name in names if name not in as_expected],
        }
        for kind, names in kinds.items()
    }
    nothing: dict[str, list[str]] = {"success": [], "failure": []}
    return status | {"FAIL_TO_FAIL": nothing, "PASS_TO_FAIL": nothing}


def run_report(instance_ids: Sequence[str], graded: Iterable[Graded]) -> dict[str, Any]:
    """The report of a whole run; `instance_ids` are those of the taskset, with a prediction or without."""
    graded = list(graded)
    submitted = {g.prediction.instance_id for g in graded}
    run = [g for g in graded if g.prediction.model_patch]
    ids = {
        "completed": [g for g in run if g.report],
        "empty_patch": [g for g in graded if not g.prediction.model_patch],
        "resolved": [g for g in run if g.report and g.report["resolved"]],
        "unresolved": [g for g in run if g.report and not g.report["resolved"]],
        "infra_failure": [g for g in run if g.failure and g.failure[1]],
        "ambiguous_failure": [g for g in run if g.failure and not g.failure[1]],
        "error": [g for g in run if not g.report],
    }
    names = {kind: sorted(g.prediction.instance_id for g in found) for kind, found in ids.items()}
    reasons = {g.prediction.instance_id: g.failure[0] for g in run if g.failure}
    return {
        "total_instances": len(instance_ids),
        "submitted_instances": len(submitted),
        **{f"{kind}_instances": len(found) for kind, found in names.items()},
        **{f"{kind}_ids": found for kind, found in names.items()},
        "incomplete_ids": sorted(set(instance_ids) - submitted),
        "submitted_ids": sorted(submitted),
        "failure_reasons": dict(sorted(reasons.items())),
        "schema_version": 2,
    }


def _log(result: Result) -> bytes:
    name = result.finished.files.get("test_log")
    return (result.folder / name).read_bytes() if name else b""


def _failure(report: dict[str, Any] | None, log: bytes) -> Failure | None:
    """By the signatures of `swebench`, where it is installed."""
    if report and report["resolved"]:
        return None
    try:
        from swebench.harness.infra_failure import TIER_ENVIRONMENT, classify_text
    except ImportError:
        return None
    found = classify_text(log.decode(errors="replace"))
    return (found[0], found[1] == TIER_ENVIRONMENT) if found else None


def _write_instance(
    out: Path, prediction: Prediction, report: dict[str, Any] | None, log: bytes, run_id: str
) -> None:
    model = prediction.model_name_or_path.replace("/", "__")
    folder = out / "logs" / "run_evaluation" / run_id / model / prediction.instance_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "patch.diff").write_text(prediction.model_patch or "")
    (folder / "test_output.txt").write_bytes(log)
    if report is not None:
        data = {prediction.instance_id: report}
        (folder / "report.json").write_text(json.dumps(data, indent=4) + "\n")
