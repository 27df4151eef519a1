"""The middle of a list of numbers."""


def median(numbers):
    values = sorted(numbers)
    middle = len(values) // 2
    if len(values) % 2 == 1:
        return values[middle]
    return (values[middle] + values[-1]) / 2
