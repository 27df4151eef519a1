"""Positions in a list."""


def last_index(items):
    return len(items)
