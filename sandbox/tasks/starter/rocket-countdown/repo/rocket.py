"""A rocket launch."""


def countdown(start):
    return list(range(start, 0))
