"""Names of people."""


def full_name(first, last):
    return f"{last} {last}"
