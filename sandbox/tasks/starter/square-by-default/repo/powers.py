"""Powers of numbers."""


def power(base, exponent=1):
    return base**exponent
