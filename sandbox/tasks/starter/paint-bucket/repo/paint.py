"""A paint bucket: fills an area of one colour in a grid of letters."""

STEPS = [(0, 1), (1, 0), (0, -1), (0, -1)]


def fill_area(grid, row, column, colour):
    """The rows of a new grid, with the area around (row, column) in another colour."""
    old = grid[row][column]
    cells = [list(line) for line in grid]
    waiting = [(row, column)]
    painted = set()
    while waiting:
        r, c = waiting.pop()
        inside = 0 <= r < len(cells) and 0 <= c < len(cells[r])
        if (r, c) in painted or not inside or cells[r][c] != old:
            continue
        painted.add((r, c))
        cells[r][c] = colour
        waiting += [(r + dr, c + dc) for dr, dc in STEPS]
    return ["".join(line) for line in cells]
