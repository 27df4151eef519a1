"""Discounts on a sum in cents."""


def after_discount(cents, percent):
    """The sum that is left, in whole cents."""
    return cents - percent
