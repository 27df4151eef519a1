"""Medals of a competition."""


def silver(scores):
    ranked = sorted(set(scores))
    if len(ranked) < 2:
        return None
    return ranked[-1]
