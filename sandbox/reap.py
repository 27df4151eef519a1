"""Remove what sandboxes left behind: `python -m sandbox.reap` asks every backend that this machine
can reach for those whose holder is dead or whose lease has run out.

How bubblewrap's are found is here: it reads the locks of their records, never guesses by process id,
and namespaces and files need no reaping, since they die with their holder. How an engine's are found
is that backend's own affair.

Prints one JSON object; with --list also what there is afterwards, by backend. Exit code 0, or 1 when something could
not be removed.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from sandbox.base import BACKENDS, ReapReport
from sandbox.cgroups import Group
from sandbox.deployment import configured_backend
from sandbox.errors import SandboxUnavailable
from sandbox.records import STATE, Record, claim, read_records, remove_torn


class _Closable(Protocol):
    def close(self) -> None: ...


def reap_records(state: Path, *, run: str | None, held: Mapping[str, _Closable]) -> ReapReport:
    """Remove the sandboxes recorded in `state` that nobody may keep; `held` are those of the
    calling process.
    """
    remove_torn(state)
    examined, removed, errors = 0, [], []
    for path, record in read_records(state):
        examined += 1
        try:
            if _reap_one(path, record, run, held.get(record.id)):
                removed.append(record.id)
        except OSError as error:
            errors.append(f"sandbox {record.id}: {error}")
    return ReapReport(examined=examined, removed=tuple(removed), errors=tuple(errors))


def _reap_one(path: Path, record: Record, run: str | None, own: _Closable | None) -> bool:
    wanted = record.labels.run == run if run is not None else record.labels.expires < time.time()
    if own is not None:
        if wanted:
            own.close()
        return wanted
    with claim(path) as orphaned:
        if orphaned or wanted:
            path.unlink(missing_ok=True)
            if record.group_folders:
                folders = {c: Path(f) for c, f in record.group_folders.items()}
                Group(version=record.group_version, folders=folders).remove()
        return orphaned or wanted


def main(argv: Sequence[str] | None = None) -> int:
    args = _options(argv)
    examined = 0
    removed: list[str] = []
    errors: list[str] = []
    recorded: dict[str, list[dict[str, Any]]] = {}
    unavailable: dict[str, str] = {}
    options = {
        "bubblewrap": {"state": args.state} if args.state else {},
        "docker": {"base_url": args.engine} if args.engine else {},
    }
    for name in [args.backend] if args.backend else BACKENDS:
        try:
            backend = configured_backend(name, **options.get(name, {}))
            if not args.keep:
                report = backend.reap(run=args.run)
                examined += report.examined
                removed += report.removed
                errors += report.errors
            if args.list:
                recorded[name] = [asdict(sandbox) for sandbox in backend.recorded()]
        except SandboxUnavailable as error:
            unavailable[name] = str(error)
    # A backend that was asked for by name must answer; of the others, those that are in use do.
    errors += [unavailable[args.backend]] if args.backend in unavailable else []
    found: dict[str, Any] = {"examined": examined, "removed": removed, "errors": errors}
    found |= {"recorded": recorded} if args.list else {}
    found |= {"unavailable": unavailable} if unavailable else {}
    print(json.dumps(found))
    return 1 if errors else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.reap", description="Remove abandoned sandboxes."
    )
    parser.add_argument("--backend", choices=sorted(BACKENDS), help="only this one's")
    parser.add_argument("--list", action="store_true", help="print what there is afterwards")
    parser.add_argument("--keep", action="store_true", help="remove nothing")
    parser.add_argument("--run", help="remove all sandboxes of this run, whoever holds them")
    parser.add_argument("--engine", help="address of the Docker engine (default: the system's)")
    parser.add_argument(
        "--state",
        type=Path,
        help=f"folder of the records (bubblewrap; default: {STATE})",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
