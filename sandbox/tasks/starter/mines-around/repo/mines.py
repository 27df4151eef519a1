"""A game of mines. The grid is a list of rows; a mine is an `X`."""


def mines_around(grid, row, column):
    """How many of the eight fields around one field hold a mine."""
    found = 0
    for r in range(row - 1, row + 2):
        for c in range(column - 1, column + 2):
            if (r, c) == (row, column):
                continue
            if r < len(grid) and c < len(grid[r]) and grid[r][c] == "X":
                found += 1
    return found
