"""Opening hours of an office."""


def is_open(hour, opens, closes):
    if opens < hour < closes:
        return True
    return False
