"""Warnings for gardeners."""


def is_freezing(degrees):
    return degrees > 0
