"""Multiples of a number."""


def double(number):
    return number * 3
