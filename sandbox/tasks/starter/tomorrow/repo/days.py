"""Days of a year that is no leap year."""

MONTH_LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def tomorrow(month, day):
    """(month, day) of the next day; January is month 1."""
    if day < MONTH_LENGTHS[month]:
        return month, day + 1
    if month == 12:
        return 1, 1
    return month + 1, 1
