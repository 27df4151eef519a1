"""When a note is too old."""


def is_expired(written, now, lifetime):
    """Whether a note written at one time has reached its lifetime; all in seconds."""
    return written - now >= lifetime
