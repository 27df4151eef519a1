"""Is a list in order?"""


def is_sorted(values):
    pairs = zip(values, values)
    return all(left <= right for left, right in pairs)
