"""The calendar's leap years."""


def is_leap(year):
    if year % 400 == 0:
        return True
    return year % 4 == 0 or year % 100 == 0
