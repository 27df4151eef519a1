"""Rows of CSV files."""


def split_row(line):
    """The cells of one line. A cell in double quotes may hold commas; the quotes are dropped."""
    cells = [""]
    quoted = False
    for char in line:
        if char == '"':
            quoted = True
        elif char == "," and not quoted:
            cells.append("")
        else:
            cells[-1] += char
    return cells
