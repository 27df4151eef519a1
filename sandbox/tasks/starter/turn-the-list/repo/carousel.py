"""A carousel of pictures."""


def turn(pictures, steps):
    return pictures[steps:] + pictures[:steps]
