"""What running tests that are no secret against a patch comes to. Light: standard library only."""

from typing import NamedTuple


class Counts(NamedTuple):
    """Tests that hold for one patch, in the order in which they decide."""

    regression: int
    """Tests of the repository that passed before and still do."""
    reproduction: int
    """Cases of the script that say the issue is resolved."""
