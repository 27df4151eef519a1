"""Orders of a café."""


def nothing_ordered(orders):
    return len(orders) > 0
