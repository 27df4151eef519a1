"""Comparing heights."""


def taller(first, second):
    if first < second:
        return first
    return second
