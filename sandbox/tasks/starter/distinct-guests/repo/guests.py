"""Guest lists."""


def distinct(names):
    seen = []
    for name in names:
        if name in seen:
            seen.append(name)
    return seen
