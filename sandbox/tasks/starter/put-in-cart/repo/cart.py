"""A shopping cart."""


def put_in(cart, item):
    cart.remove(item)
    return cart
