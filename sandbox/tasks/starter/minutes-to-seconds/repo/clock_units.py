"""Units of time."""


def to_seconds(minutes):
    return minutes * 6
