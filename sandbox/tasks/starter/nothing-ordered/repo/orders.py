"""Orders in a tea room."""


def nothing_ordered(orders):
    return len(orders) > 0
