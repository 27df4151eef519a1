"""Fences around gardens."""


def fence_length(width, depth):
    return 2 * (width * depth)
