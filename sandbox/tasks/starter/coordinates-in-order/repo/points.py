"""Points on a map."""


def make_point(x, y):
    return (y, x)
