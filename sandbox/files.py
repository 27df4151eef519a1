"""Reading and writing one file of a sandbox by its own `exec`, as every backend does here.

Runs as the agent inside the sandbox, so that no link can lead anywhere the agent could not go.
"""

from sandbox.base import ExecResult, Sandbox
from sandbox.errors import OUTCOME_OF_END, Outcome, SandboxGone, SandboxPathError

_TIMEOUT_S = 30.0
_READ = 'test ! -L "$1" || exit 3; test -f "$1" || exit 4; exec head -c "$2" -- "$1"'
_REFUSALS = {3: "is a symbolic link", 4: "is not a regular file"}
_WRITE = """
d=$(dirname -- "$1"); mkdir -p -- "$d" && t=$(mktemp -- "$d/.write-XXXXXX") || exit 1
cat > "$t" && test "$(stat -c %s -- "$t")" = "$3" && chmod "$2" -- "$t" && mv -fT -- "$t" "$1" && exit
rm -f -- "$t"
exit 1
"""


def read_file(sandbox: Sandbox, path: str, limit_bytes: int) -> bytes:
    """The regular file at absolute `path`. Raises SandboxPathError, SandboxGone."""
    result = sandbox.exec(
        ["sh", "-c", _READ, "sh", path, str(limit_bytes + 1)],
        timeout_s=_TIMEOUT_S,
        max_output_bytes=limit_bytes + 1,
    )
    _check_alive(sandbox, path, result)
    if not result.ok:
        raise SandboxPathError(f"{path}: {_REFUSALS.get(result.exit_code or 0, said(result))}")
    if len(result.stdout) > limit_bytes:
        raise SandboxPathError(f"{path}: larger than limit_bytes={limit_bytes}")
    return result.stdout


def write_file(sandbox: Sandbox, path: str, data: bytes, mode: int) -> None:
    """Create or replace the file at absolute `path`; a link there is replaced, not followed.

    Raises SandboxPathError, SandboxGone.
    """
    argv = ["sh", "-c", _WRITE, "sh", path, f"{mode:o}", str(len(data))]
    result = sandbox.exec(argv, stdin=data, timeout_s=_TIMEOUT_S)
    _check_alive(sandbox, path, result)
    if not result.ok:
        raise SandboxPathError(f"{path}: not written: {said(result)}")


def _check_alive(sandbox: Sandbox, path: str, result: ExecResult) -> None:
    if OUTCOME_OF_END[result.end] is Outcome.INFRA:
        raise SandboxGone(f"sandbox {sandbox.id}: ended under {path} ({result.end})")


def said(result: ExecResult) -> str:
    """The last line of a failed command's messages, or how it ended."""
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else str(result.end)
