"""Price tags in euros."""


def price_tag(cents):
    euros, rest = divmod(cents, 100)
    return f"{euros}.{rest} EUR"
