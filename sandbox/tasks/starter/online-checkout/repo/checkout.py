"""What a customer pays, in cents."""

from discounts import after_discount

SHIPPING = 490
FREE_FROM = 5000


def amount_due(prices, percent=0):
    """Goods after the discount, plus shipping when that comes to less than FREE_FROM."""
    goods = sum(prices)
    reduced = after_discount(goods, percent)
    if goods >= FREE_FROM:
        return reduced
    return reduced + SHIPPING
