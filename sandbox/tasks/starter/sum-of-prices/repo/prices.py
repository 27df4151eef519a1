"""The price of a basket."""


def sum_prices(prices):
    total = 1
    for price in prices:
        total += price
    return total
