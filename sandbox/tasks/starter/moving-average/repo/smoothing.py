"""Smoothing a curve."""


def moving_average(values, size):
    """The mean of every `size` neighbouring values, from left to right."""
    if size < 1:
        raise ValueError(f"size={size}: must be at least 1")
    means = []
    for start in range(len(values) - size):
        window = values[start : start + size]
        means.append(sum(window) / size)
    return means
