"""The scripted episode that sandboxes are compared by, and what is measured of it: plain data, written as JSON.

Standard library only, for each side reads it in an environment of its own. It measures nothing.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

COMMANDS = (
    "ls",
    "cat calc.py",
    "grep -n return calc.py",
    "python3 -c 'import calc; print(calc.add(1, 2))'",
    "sed -i 's/a - b/a + b/' calc.py",
    "cat calc.py",
    "python3 -c 'import calc; assert calc.add(1, 2) == 3'",
    "echo done > note.txt",
    "rm note.txt",
    "true",
)
"""What an agent runs, one a turn: look, try, mend, try again."""

FILES = {"calc.py": "def add(a, b):\n    return a - b\n"}
TESTS = {"test_1.py": "import calc\n\n\ndef test_add():\n    assert calc.add(1, 2) == 3\n"}
EXPECTED = {"test_add": "PASSED"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Episodes of one kind of sandbox, `at_once` side by side; seconds of wall time."""

    at_once: int
    whole_s: float
    """From the first start to the last end of the episodes that ended well."""
    start_s: tuple[float, ...]
    """Of each episode: until the first command can be sent."""
    exec_s: tuple[float, ...]
    """Of each command of each episode."""
    grades: bool
    """Every episode was also graded in a second, fresh sandbox, inside `whole_s`."""
    failed: tuple[str, ...] = ()
    """Why each of the others did not end well; they count nowhere."""

    @property
    def episodes_per_minute(self) -> float:
        return 60 * len(self.start_s) / self.whole_s

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        data = json.loads(path.read_text())
        return cls(
            **data | {name: tuple(data[name]) for name in ("start_s", "exec_s", "failed")},
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]
