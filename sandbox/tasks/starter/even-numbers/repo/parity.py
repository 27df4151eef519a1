"""Even and odd."""


def is_even(number):
    return number % 2 == 1
