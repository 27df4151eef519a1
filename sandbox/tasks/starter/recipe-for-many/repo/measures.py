"""Kitchen measures."""

GRAMS = {"g": 1, "kg": 100, "pinch": 0.5}


def to_grams(amount, unit):
    """An amount in grams. Raises KeyError for a unit that is not known."""
    return amount * GRAMS[unit]
