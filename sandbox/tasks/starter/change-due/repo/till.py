"""A shop's till."""


def change_due(paid, price):
    return paid + price
