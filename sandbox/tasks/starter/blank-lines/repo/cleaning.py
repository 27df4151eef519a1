"""Cleaning up text files."""


def drop_blank(lines):
    return [line for line in lines if line]
