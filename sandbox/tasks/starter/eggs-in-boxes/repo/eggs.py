"""Eggs sold by the dozen."""


def count_eggs(dozens):
    return dozens * 10
