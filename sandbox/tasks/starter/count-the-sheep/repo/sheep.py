"""Counting a flock."""


def count_sheep(animals):
    count = 0
    for animal in animals:
        if animal == "sheep":
            count += 2
    return count
