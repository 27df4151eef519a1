"""Results shown page by page."""


def pages(items, size):
    starts = range(0, len(items), 1)
    return [items[start : start + size] for start in starts]
