"""What is in a basket."""


def has_item(basket, item):
    return item not in basket
