"""Days of the week."""


def is_weekend(day):
    return day in ("Friday", "Sunday")
