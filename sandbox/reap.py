"""Remove what sandboxes left behind: `python -m sandbox.reap` finds records whose holder is dead,
or that have expired.

It reads locks, never guesses by process id. A sandbox's namespaces and files need no reaping: they
die with their holder.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sandbox.base import BACKENDS, ReapReport, load_backend
from sandbox.cgroups import Group
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
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.reap", description="Remove abandoned sandboxes."
    )
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="bubblewrap")
    parser.add_argument("--run", help="remove all sandboxes of this run, whoever holds them")
    parser.add_argument(
        "--state",
        type=Path,
        default=STATE,
        help="folder of the records (bubblewrap; default: %(default)s)",
    )
    args = parser.parse_args(argv)
    options = {"state": args.state} if args.backend == "bubblewrap" else {}
    report = load_backend(args.backend, **options).reap(run=args.run)
    print(
        json.dumps(
            {"examined": report.examined, "removed": report.removed, "errors": report.errors}
        )
    )
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
