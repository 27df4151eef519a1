"""Lists inside a list."""


def flatten(rows):
    flat = []
    for row in rows:
        flat.append(row)
    return flat
