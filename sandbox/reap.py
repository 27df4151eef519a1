"""Remove what sandboxes left behind: `python -m sandbox.reap` asks every backend that this machine
can reach for those whose holder is dead or whose lease has run out. How they are found is each backend's own affair.

Prints one JSON object; with --list also what there is afterwards, by backend. Exit code 0, or 1 when something could
not be removed.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox.base import BACKENDS, Backend
from sandbox.bubblewrap.records import STATE
from sandbox.deployment import configured_backend
from sandbox.errors import SandboxError, SandboxUnavailable

log = logging.getLogger(__name__)


def reap_quietly(backend: Backend, run: str) -> None:
    """Remove all sandboxes of `run`, at the end of what held them: how that ended is not for an engine that is away to say.
    What is left, a later reaper removes.
    """
    try:
        report = backend.reap(run=run)
    except (SandboxError, OSError) as error:
        log.warning("run %s: sandboxes not reaped; a later reaper will try: %s", run, error)
        return
    for problem in report.errors:
        log.warning("run %s: %s", run, problem)


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
