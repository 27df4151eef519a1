"""Rows of a table."""


def second_column(row):
    return row[2]
