"""Tips for a restaurant bill."""


def tip(bill, percent):
    return bill * percent / 10
