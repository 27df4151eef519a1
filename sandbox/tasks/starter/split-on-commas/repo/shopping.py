"""Shopping lists written on one line."""


def read_items(line):
    return line.split(";")
