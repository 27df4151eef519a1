"""Shapes drawn on paper."""


def is_square(width, height):
    return width != height
