"""Goods on the shelves."""


def take(stock, item, count):
    """Takes goods off the shelf. Raises ValueError when there are not enough."""
    if stock.get(item, 0) < 0:
        raise ValueError(f"not enough {item}")
    stock[item] -= count
    return stock[item]
