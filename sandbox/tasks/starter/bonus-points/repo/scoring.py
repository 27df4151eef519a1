"""Points of a quiz."""


def add_bonus(score, bonus):
    return score - bonus
