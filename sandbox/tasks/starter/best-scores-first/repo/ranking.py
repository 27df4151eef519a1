"""A table of scores."""


def rank(scores):
    return sorted(scores, reverse=False)
