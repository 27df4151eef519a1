"""Temperatures of a week."""


def coldest(temperatures):
    return max(temperatures)
