"""How soon a patient must be seen."""

LEVELS = {"urgent": 0, "normal": 1, "check-up": 1}


def priority(kind):
    """A smaller number is seen sooner."""
    return LEVELS[kind]
