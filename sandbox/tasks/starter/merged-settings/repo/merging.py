"""Settings of a user on top of the defaults."""


def merge(defaults, user):
    merged = defaults
    merged.update(user)
    return merged
