"""What the hidden tests said of a rollout: expected against actual, and the stored log."""

from dataclasses import dataclass

from django.core.files.storage import default_storage

from webapp.rollouts.plaintext import plain

MAX_LOG_BYTES = 200_000


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    name: str
    expected: str
    """Empty for a test that the task does not name."""
    actual: str

    @property
    def agrees(self) -> bool:
        return self.expected in ("", self.actual)


def result_rows(actual: dict[str, str], expected: dict[str, str]) -> list[ResultRow]:
    """Those that disagree first, then by name."""
    rows = [
        ResultRow(name=plain(n), expected=expected.get(n, ""), actual=actual.get(n, "MISSING"))
        for n in sorted(actual.keys() | (expected.keys() if actual else set()))
    ]
    return sorted(rows, key=lambda row: row.agrees)


def stored_log(name: str) -> str:
    """The test log's text, its end when it is long; empty when there is none."""
    if not name or not default_storage.exists(name):
        return ""
    with default_storage.open(name) as file:
        data = file.read()
    return plain(data[-MAX_LOG_BYTES:].decode(errors="replace"))
