"""Run the hidden tests and report each status, inside a fresh sandbox. The order is one JSON object
on stdin.

Stands alone: started as `python3 -I`. The report goes to what was stdout before any code under test
ran, each line led by a random word that came with the order; whatever the tests print goes to the
log on stderr. The code under test shares this process, so what it could still do is in
docs/sandbox.md.
"""

# No pathlib here: its import would be half of this tool's start-up time.

import json
import os
import shutil
import sys
from collections.abc import Callable, Generator
from typing import Any

Send = Callable[..., None]

ROOT = "/testbed"
FOLDER = "r2e_tests"
OPTIONS = (
    *(
        "-q",
        "--tb=short",
        "--no-header",
        "--color=no",
        "--continue-on-collection-errors",
        f"--rootdir={ROOT}",
    ),
    *(
        o
        for name in ("cacheprovider", "pastebin", "junitxml", "doctest", "stepwise")
        for o in ("-p", f"no:{name}")
    ),
)


def lay(tests: dict[str, str]) -> None:
    folder = os.path.join(ROOT, FOLDER)
    if os.path.islink(folder) or os.path.isfile(folder):
        os.unlink(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in tests.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)


def sender(word: str) -> Send:
    """A function that writes one line of the report; it holds the only descriptor and word."""
    fd, write, dumps = os.dup(1), os.write, json.dumps
    os.set_inheritable(fd, False)
    os.dup2(2, 1)

    def send(*row: object) -> None:
        write(fd, f"{word} {dumps(row)}\n".encode())

    return send


def reporter(send: Send) -> object:
    import pytest

    class Reporter:
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(self, item: Any, call: Any) -> Generator[None, Any, Any]:
            report = yield
            raised = call.excinfo is not None and not call.excinfo.errisinstance(
                (pytest.skip.Exception,)
            )
            if raised and report.passed:
                send("lie", item.nodeid)
            return report

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                send(
                    "test", report.nodeid, report.when, report.outcome, hasattr(report, "wasxfail")
                )

        def pytest_internalerror(self, excinfo: Any) -> None:
            if excinfo.errisinstance(SystemExit):
                send("left")

        def pytest_collection_finish(self, session: Any) -> None:
            send("collected", [item.nodeid for item in session.items])

    return Reporter()


def main() -> None:
    order = json.load(sys.stdin)
    send, leave = sender(order["word"]), os._exit
    lay(order["tests"])
    os.environ.update(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True
    os.chdir(ROOT)
    import pytest

    plugin = reporter(send)
    sys.path.insert(0, ROOT)
    code = int(pytest.main([*OPTIONS, FOLDER], plugins=[plugin]))
    send("end", code)
    sys.stdout.flush()
    sys.stderr.flush()
    leave(code)


if __name__ == "__main__":
    main()
