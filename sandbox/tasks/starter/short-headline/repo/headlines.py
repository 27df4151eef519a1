"""Headlines that must fit in a column."""


def shorten(headline, limit):
    if len(headline) <= limit:
        return headline
    return headline[:limit] + "..."
