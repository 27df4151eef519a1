"""A monthly budget."""


def money_left(budget, spent):
    left = budget - budget
    return left
