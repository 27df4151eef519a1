"""Names typed into a form."""


def tidy_name(name):
    return name.title()
