"""What the model reads after a tool ran: R2E-Gym's format, bounded in lines and characters.

Decides wording and length only; nothing here runs or grades.
"""

from typing import NamedTuple

from sandbox.base import ExecResult
from sandbox.errors import End

FINISHED = "<<<Finished>>>"
_HEAD_LINES = _TAIL_LINES = 40


class Observation(NamedTuple):
    text: str
    truncated: bool


def observation(tool: str, result: ExecResult, *, timeout_s: float, max_chars: int) -> Observation:
    """The observation of one tool call. Only execute_bash shows its exit code, as in R2E-Gym."""
    body, cut = _cut_lines(_body(tool, result, timeout_s))
    head = f"Execution output of [{tool}]:\n"
    if tool == "execute_bash":
        head = f"Exit code: {-1 if result.exit_code is None else result.exit_code}\n{head}"
    body, shortened = _cut_chars(body or "(no output)", max(0, max_chars - len(head)))
    return Observation(
        head + body, cut or shortened or result.stdout_truncated or result.stderr_truncated
    )


def error_observation(error: str, max_chars: int) -> Observation:
    """What the model reads when its call could not be run."""
    return Observation(*_cut_chars(f"ERROR: {error}", max_chars))


def _body(tool: str, result: ExecResult, timeout_s: float) -> str:
    stdout, stderr = (_text(stream) for stream in (result.stdout, result.stderr))
    if tool == "execute_bash":
        parts = [f"[STDOUT]\n{stdout}" if stdout else "", f"[STDERR]\n{stderr}" if stderr else ""]
    else:
        parts = [stdout, stderr]
    notes = {
        End.TIMEOUT: f"The command took too long to execute (>{timeout_s:g}s) and was stopped.",
        End.OUTPUT_LIMIT: "The command printed too much and was stopped.",
        End.OOM: "The command ran out of memory and was stopped.",
    }
    return "\n".join(part for part in (*parts, notes.get(result.end, "")) if part)


def _text(stream: bytes) -> str:
    return stream.decode("utf-8", "replace").replace("\r\n", "\n").strip("\n")


def _cut_lines(text: str) -> tuple[str, bool]:
    lines = text.split("\n")
    left_out = len(lines) - _HEAD_LINES - _TAIL_LINES
    if left_out <= 0:
        return text, False
    return "\n".join(
        [*lines[:_HEAD_LINES], f"... {left_out} lines left out ...", *lines[-_TAIL_LINES:]]
    ), True


def _cut_chars(text: str, limit: int) -> tuple[str, bool]:
    if len(text) <= limit:
        return text, False
    divider = "\n... cut ...\n"
    kept = max(0, limit - len(divider))
    tail = kept // 2
    return text[: kept - tail] + divider + text[len(text) - tail :], True
